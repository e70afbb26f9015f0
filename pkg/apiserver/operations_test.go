// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
)

// openAPIContent is a request's body or a response in OpenAPI v3.
type openAPIContent struct {
	Content map[string]struct {
		Schema struct {
			Ref string `json:"$ref"`
		} `json:"schema"`
	} `json:"content"`
}

func (c openAPIContent) kind() string {
	ref := c.Content["application/json"].Schema.Ref
	if ref == "" {
		ref = c.Content["*/*"].Schema.Ref
	}
	return ref[strings.LastIndexByte(ref, '.')+1:]
}

func TestOpenAPI_DescribesOperations(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Memory: true, OpenAPI: true})
	// Not by a client of discovery, which waits 32 s: OpenAPI is built when it is asked for.
	raw, err := s.Client().InfrastructureV1alpha4().RESTClient().Get().AbsPath("/openapi/v3/apis/" + api.SchemeGroupVersion.String()).DoRaw(timeout(t))
	require.NoError(t, err)
	type operation struct {
		RequestBody openAPIContent            `json:"requestBody"`
		Responses   map[string]openAPIContent `json:"responses"`
	}
	var document struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	require.NoError(t, json.Unmarshal(raw, &document))
	for _, resource := range []string{"metalstackmachines", "metalstackfirewalls"} {
		for subresource, c := range map[string]struct {
			kind  string
			verbs []string
		}{
			"power": {"MachinePower", []string{"get", "post"}}, "identify": {"MachineIdentify", []string{"post"}},
			"consolepassword": {"MachineConsolePassword", []string{"post"}}, "log": {"MachineLog", []string{"get"}},
			"reinstall": {"MachineReinstall", []string{"post"}}, "lock": {"MachineLock", []string{"get", "post", "delete"}},
		} {
			path := document.Paths["/apis/"+api.SchemeGroupVersion.String()+"/namespaces/{namespace}/"+resource+"/{name}/"+subresource]
			require.NotNil(t, path, subresource)
			for _, verb := range c.verbs {
				var o operation
				require.NoError(t, json.Unmarshal(path[verb], &o), "%s %s", verb, subresource)
				assert.Equal(t, c.kind, o.Responses["200"].kind(), "%s %s", verb, subresource)
				if verb == "post" {
					assert.Equal(t, c.kind, o.RequestBody.kind(), subresource)
				}
			}
		}
	}
}

// The log is a table for who accepts one, and an object for all others.
func TestLog_IsTableOrObject(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Memory: true})
	ctx, client := timeout(t), s.Client().InfrastructureV1alpha4()
	allocatedCluster(t, s, "c")
	_, err := client.MetalStackMachines(team).Create(ctx, machine("node-1"), metav1.CreateOptions{})
	require.NoError(t, err)
	m, err := client.MetalStackMachines(team).Allocate(ctx, "node-1", &api.Allocation{ClusterRef: &api.LocalReference{Name: "c"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, s.Metal.Sim.SendEvent(m.Status.Allocation.MachineID, "Installing", "<b>"))
	require.Eventually(t, func() bool {
		log, err := client.MetalStackMachines(team).GetLog(ctx, "node-1", metav1.GetOptions{})
		return err == nil && len(log.Events) > 0 && log.Events[len(log.Events)-1].Message == "<b>"
	}, time.Minute, 20*time.Millisecond)

	http1, err := rest.HTTPClientFor(s.Config)
	require.NoError(t, err)
	get := func(accept string) (table metav1.Table) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/apis/"+api.SchemeGroupVersion.String()+"/namespaces/"+team+"/metalstackmachines/node-1/log?includeObject=None", nil)
		require.NoError(t, err)
		req.Header.Set("Accept", accept)
		resp, err := http1.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		require.Equal(t, http.StatusOK, resp.StatusCode)
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&table))
		return table
	}
	table := get("application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
	assert.Equal(t, "Table", table.Kind)
	assert.Equal(t, []any{"Installing", "<b>"}, table.Rows[len(table.Rows)-1].Cells[1:])
	assert.Equal(t, "MachineLog", get("application/json").Kind)
}
