package standalone

import (
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authentication/request/union"
	"k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/authorization/path"
	authorizerunion "k8s.io/apiserver/pkg/authorization/union"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
)

// healthPaths may be read by everybody: probes hold no credentials.
var healthPaths = []string{"/healthz", "/livez", "/readyz"}

// Authenticate accepts certificates of the authority, and nobody else except
// at the health paths.
func Authenticate(info *server.AuthenticationInfo, serving *server.SecureServingInfo, a *Authority) error {
	ca, err := dynamiccertificates.NewStaticCAContent("standalone", a.Bundle())
	if err != nil {
		return err
	}
	if err := info.ApplyClientCert(ca, serving); err != nil {
		return err
	}
	conditions := make([]apiserver.AnonymousAuthCondition, 0, len(healthPaths))
	for _, p := range healthPaths {
		conditions = append(conditions, apiserver.AnonymousAuthCondition{Path: p})
	}
	var certificates authenticator.Request = x509.NewDynamic(ca.VerifyOptions, x509.CommonNameUserConversion)
	info.Authenticator = union.New(
		group.NewAuthenticatedGroupAdder(certificates),
		anonymous.NewAuthenticator(conditions),
	)
	return nil
}

// Authorize lets the administrators' group do everything and everybody read
// the health paths; what no authorizer has an opinion about is denied.
func Authorize(info *server.AuthorizationInfo) error {
	health, err := path.NewAuthorizer(healthPaths)
	if err != nil {
		return err
	}
	info.Authorizer = authorizerunion.New(
		authorizerfactory.NewPrivilegedGroups(user.SystemPrivilegedGroup),
		health,
	)
	return nil
}
