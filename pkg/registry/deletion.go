// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"net/http"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// Kubernetes' own controllers that delete what they find. With
// --use-service-account-credentials, the kube-controller-manager gives each a
// service account of its name in kube-system. Without, all share one identity of
// the administrator's choice; then the name is the last part of the User-Agent,
// which the builders of k8s.io/controller-manager append to it, and which the
// kube-apiserver passes on.
const (
	garbageCollector    = "generic-garbage-collector"
	namespaceController = "namespace-controller"

	serviceAccountPrefix = "system:serviceaccount:" + metav1.NamespaceSystem + ":"
)

type userAgentKey struct{}

// WithUserAgent keeps the User-Agent of a request for who has to know what sent
// it.
func WithUserAgent(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		next.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), userAgentKey{}, req.UserAgent())))
	})
}

// requester returns who sent a request to delete something. A User-Agent proves
// nothing; who pretends to be the garbage collector only has the metal kept.
func requester(ctx context.Context) infrastructure.DeletionRequester {
	switch {
	case sentBy(ctx, garbageCollector):
		return infrastructure.DeletionByGarbageCollector
	case sentBy(ctx, namespaceController):
		return infrastructure.DeletionByNamespaceController
	}
	return infrastructure.DeletionByUser
}

func sentBy(ctx context.Context, controller string) bool {
	if u, ok := request.UserFrom(ctx); ok && u.GetName() == serviceAccountPrefix+controller {
		return true
	}
	agent, _ := ctx.Value(userAgentKey{}).(string)
	return strings.HasSuffix(agent, "/"+controller)
}

// CheckGracefulDelete implements rest.RESTGracefulDeleteStrategy. No deletion is
// graceful. The store calls it in the write that sets the deletionTimestamp, and
// only then, so it is where the record gets to know who asked.
func (s strategy[T, Spec, Status]) CheckGracefulDelete(ctx context.Context, o runtime.Object, _ *metav1.DeleteOptions) bool {
	if s.kind.Deletion == nil {
		return false
	}
	by := infrastructure.DeletionByUser
	if s.hasGarbageCollector {
		by = requester(ctx)
	}
	*s.kind.Deletion(o.(T)) = &infrastructure.Deletion{RequestedBy: by}
	return false
}
