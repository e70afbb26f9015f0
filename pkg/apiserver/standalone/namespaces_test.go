package standalone

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

func TestABoundNamespaceIsFoundAndNoOther(t *testing.T) {
	t.Parallel()
	bindings, err := tenancy.NewStatic([]string{"team-a=10000000-0000-4000-8000-00000000000a"})
	require.NoError(t, err)
	handler := Namespaces(bindings)
	for _, c := range []struct {
		method, name string
		status       int
		kind, reason string
	}{
		{http.MethodGet, "team-a", http.StatusOK, "Namespace", ""},
		{http.MethodGet, "team-b", http.StatusNotFound, "Status", "NotFound"},
		{http.MethodDelete, "team-a", http.StatusMethodNotAllowed, "Status", "MethodNotAllowed"},
	} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), c.method, NamespacesPath+c.name, nil))
		assert.Equal(t, c.status, w.Code, "%s %s", c.method, c.name)
		var answer struct{ Kind, Reason string }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
		assert.Equal(t, c.kind, answer.Kind)
		assert.Equal(t, c.reason, answer.Reason)
	}
}
