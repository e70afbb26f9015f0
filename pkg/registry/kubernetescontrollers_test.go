// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"

	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

func TestKubernetesControllers_AreShownRecordsOnly(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		user, agent string
		want        bool
	}{
		{"system:kube-controller-manager", "kube-controller-manager/v1.36.3 (linux/amd64) kubernetes/abc/metadata-informers", true},
		{"system:serviceaccount:kube-system:namespace-controller", "kube-controller-manager/v1.36.3 (linux/amd64) kubernetes/abc", true},
		{"system:serviceaccount:kube-system:resourcequota-controller", "", true},
		{"admin", "kubectl/v1.36.3 (linux/amd64) kubernetes/abc", false},
		{"alice", "metadata-informers", false},
	} {
		ctx := request.WithUser(context.WithValue(t.Context(), userAgentKey{}, tc.agent), &user.DefaultInfo{Name: tc.user})
		assert.Equal(t, tc.want, storage.IsRecordsOnly(withRecordsOnlyForControllers(ctx)), "%s, %s", tc.user, tc.agent)
	}
}
