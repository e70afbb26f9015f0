// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// Whose network it is decides what the refusal of a write advises.
func TestDiscoveredNetwork_IsReadOnly(t *testing.T) {
	t.Parallel()
	f := startNets(t, nil, newFakeNets("a", "b"))
	f.observe("n", net{project: "a", shared: true, phase: "1"})
	for key, want := range map[string]string{
		"/nets/team-a/n": "to manage it, create a Pod of another name with spec.networkID: n; deleting the object releases nothing",
		"/nets/team-b/n": "this is not the project's own",
	} {
		for _, ctx := range []bool{false, true} {
			request := t.Context()
			if ctx {
				request = WithDryRun(request, 0)
			}
			err := f.nets.Get(request, key, apistorage.GetOptions{}, &example.Pod{})
			if !ctx {
				err = f.nets.Delete(request, key, &example.Pod{}, nil, apistorage.ValidateAllObjectFunc, nil, apistorage.DeleteOptions{})
			}
			if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, dry run %v: %v", key, ctx, err)
			}
		}
	}
}
