// SPDX-License-Identifier: Apache-2.0

package options

import (
	"net/http"

	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/request/headerrequest"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/inflight"
)

// withProxiedUsers authenticates the users whom the kube-apiserver names in headers, and
// leaves all other requests to next. Next would authenticate these as well, but verify
// the kube-apiserver's certificate for each of its requests, which takes a tenth of the
// CPU of a get.
func withProxiedUsers(next authenticator.Request, proxy *authenticatorfactory.RequestHeaderConfig) authenticator.Request {
	if proxy == nil {
		return next
	}
	fromKubeAPIServer := inflight.NewCertificateVerifier(proxy.CAContentProvider.VerifyOptions, proxy.AllowedClientNames, clock.RealClock{})
	users := group.NewAuthenticatedGroupAdder(headerrequest.NewDynamic(proxy.UsernameHeaders, proxy.UIDHeaders, proxy.GroupHeaders, proxy.ExtraHeaderPrefixes))
	return authenticator.RequestFunc(func(req *http.Request) (*authenticator.Response, bool, error) {
		if fromKubeAPIServer(req) {
			if response, ok, err := users.AuthenticateRequest(req); ok || err != nil {
				return response, ok, err
			}
		}
		return next.AuthenticateRequest(req)
	})
}

// rejectAnonymous answers 401 to requests that next does not authenticate. The generic
// server would treat them as anonymous and answer 403, which does not say that
// credentials are invalid.
func rejectAnonymous(next authenticator.Request) authenticator.Request {
	return authenticator.RequestFunc(func(req *http.Request) (*authenticator.Response, bool, error) {
		response, ok, err := next.AuthenticateRequest(req)
		if ok && response.User.GetName() == user.Anonymous {
			return nil, false, nil
		}
		return response, ok, err
	})
}
