// SPDX-License-Identifier: Apache-2.0

package owners

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// answer is what a kube-apiserver says of an object.
type answer struct {
	code   int
	status metav1.StatusReason
}

// serve simulates a kube-apiserver; it serves the given paths only.
func serve(t *testing.T, answers map[string]answer) *Cluster {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		a, served := answers[req.URL.Path]
		if !served {
			http.NotFound(w, req)
			return
		}
		var body any = &metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"},
			ObjectMeta: metav1.ObjectMeta{Name: "m", UID: "uid-of-m"},
		}
		if a.code != http.StatusOK {
			body = &metav1.Status{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
				Code: int32(a.code), Reason: a.status, Message: "refused", Details: &metav1.StatusDetails{Name: "m"},
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(a.code)
		if err := json.NewEncoder(w).Encode(body); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	c, err := New(&rest.Config{Host: server.URL})
	require.NoError(t, err)
	return c
}

func TestOwners_AreFoundInEveryServedVersion(t *testing.T) {
	t.Parallel()
	const path = "/namespaces/team-a/machines/m"
	missing := answer{http.StatusNotFound, metav1.StatusReasonNotFound}
	for name, c := range map[string]struct {
		version  string
		answers  map[string]answer
		found    bool
		notFound bool
	}{
		"version of the reference":     {"v1beta2", map[string]answer{"/apis/cluster.x-k8s.io/v1beta2" + path: {code: http.StatusOK}}, true, false},
		"version that is gone":         {"v1alpha3", map[string]answer{"/apis/cluster.x-k8s.io/v1beta1" + path: {code: http.StatusOK}}, true, false},
		"no such Machine":              {"v1beta2", map[string]answer{"/apis/cluster.x-k8s.io/v1beta2" + path: missing}, false, true},
		"no such Machine, older":       {"v1alpha3", map[string]answer{"/apis/cluster.x-k8s.io/v1beta2" + path: missing}, false, true},
		"no version is served":         {"v1beta2", nil, false, false},
		"no right to get it":           {"v1beta2", map[string]answer{"/apis/cluster.x-k8s.io/v1beta2" + path: {http.StatusForbidden, metav1.StatusReasonForbidden}}, false, false},
		"kube-apiserver has no answer": {"v1beta2", map[string]answer{"/apis/cluster.x-k8s.io/v1beta2" + path: {http.StatusInternalServerError, metav1.StatusReasonInternalError}}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			owner, err := serve(t, c.answers).Owner(t.Context(), registry.OwnerKey{
				APIVersion: "cluster.x-k8s.io/" + c.version, Kind: "Machine", Namespace: "team-a", Name: "m"})
			require.Equal(t, c.notFound, apierrors.IsNotFound(err), "%v", err)
			if !c.found {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.EqualValues(t, "uid-of-m", owner.GetUID())
		})
	}
}

func TestOwners_KnowMachinesAndClustersOfClusterAPI(t *testing.T) {
	t.Parallel()
	c := &Cluster{}
	require.True(t, c.Supports("cluster.x-k8s.io/v1beta1", "Machine"))
	require.True(t, c.Supports("cluster.x-k8s.io/v1beta2", "Cluster"))
	require.False(t, c.Supports("cluster.x-k8s.io/v1beta2", "MachineSet"), "the server may not get it")
	require.False(t, c.Supports("example.org/v1", "Machine"))
	require.False(t, c.Supports("v1", "ConfigMap"))
}

func TestNamespace_IsNotFoundOnlyIfTheKubeAPIServerSaysSo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer          answer
		found, notFound bool
	}{
		"there":                        {answer{code: http.StatusOK}, true, false},
		"not there":                    {answer{http.StatusNotFound, metav1.StatusReasonNotFound}, false, true},
		"no right to get it":           {answer{http.StatusForbidden, metav1.StatusReasonForbidden}, false, false},
		"kube-apiserver has no answer": {answer{http.StatusInternalServerError, metav1.StatusReasonInternalError}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns, err := serve(t, map[string]answer{"/api/v1/namespaces/team-a": c.answer}).Namespace(t.Context(), "team-a")
			require.Equal(t, c.notFound, apierrors.IsNotFound(err), "%v", err)
			require.Equal(t, c.found, err == nil, "%v", err)
			if c.found {
				require.EqualValues(t, "uid-of-m", ns.GetUID())
			}
		})
	}
}
