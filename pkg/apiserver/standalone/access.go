// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
)

// Authenticate authenticates client certificates of the authority only.
func Authenticate(info *server.AuthenticationInfo, serving *server.SecureServingInfo, a *Authority) error {
	ca, err := dynamiccertificates.NewStaticCAContent("standalone", a.Bundle())
	if err != nil {
		return err
	}
	if err := info.ApplyClientCert(ca, serving); err != nil {
		return err
	}
	info.Authenticator = group.NewAuthenticatedGroupAdder(x509.NewDynamic(ca.VerifyOptions, x509.CommonNameUserConversion))
	return nil
}

// Authorize allows the administrators' group everything; all other requests are denied.
func Authorize(info *server.AuthorizationInfo) error {
	info.Authorizer = authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup)
	return nil
}
