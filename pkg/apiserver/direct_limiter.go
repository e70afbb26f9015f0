// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"

	x509request "k8s.io/apiserver/pkg/authentication/request/x509"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/inflight"
)

// newDirectLimiter returns the limiter of requests that do not come through the
// kube-apiserver, and wraps the authenticator in it. Without a kube-apiserver, only
// requests without a verified certificate are limited.
func newDirectLimiter(generic *server.Config, limits inflight.Limits) *inflight.Limiter {
	hasClientCertificate := func(*http.Request) bool { return false }
	if serving := generic.SecureServing; serving != nil && serving.ClientCA != nil {
		hasClientCertificate = inflight.NewCertificateVerifier(serving.ClientCA.VerifyOptions, x509request.StaticStringSlice(nil), clock.RealClock{})
	}
	fromKubeAPIServer := hasClientCertificate
	if proxy := generic.Authentication.RequestHeaderConfig; proxy != nil {
		fromKubeAPIServer = inflight.NewCertificateVerifier(proxy.CAContentProvider.VerifyOptions, proxy.AllowedClientNames, clock.RealClock{})
	}
	l := inflight.New(inflight.Options{
		Limits: limits, FromKubeAPIServer: fromKubeAPIServer, HasClientCertificate: hasClientCertificate,
		LongRunning: func(req *http.Request) bool {
			info, err := generic.RequestInfoResolver.NewRequestInfo(req)
			return err == nil && generic.LongRunningFunc(req, info)
		},
	})
	generic.Authentication.Authenticator = l.Authenticator(generic.Authentication.Authenticator)
	return l
}
