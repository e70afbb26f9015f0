// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestHealthProbes_ShowNoDetailsWithoutCredentials(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Memory: true})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	t.Cleanup(client.CloseIdleConnections)
	ask := func(method, path string, header http.Header) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
		require.NoError(t, err)
		req.Header = header
		resp, err := client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	for _, path := range []string{"/healthz", "/livez", "/readyz"} {
		for _, header := range []http.Header{nil, {"Authorization": {"Basic eDp5"}}, {"Authorization": {"Bearer x"}}} {
			if header == nil {
				code, body := ask(http.MethodGet, path, nil)
				assert.Equal(t, http.StatusOK, code, path)
				assert.Equal(t, "ok", body, path)
				code, body = ask(http.MethodHead, path, nil)
				assert.Equal(t, http.StatusOK, code, path)
				assert.Empty(t, body, path)
			}
			for _, more := range []string{"?verbose", "?exclude=ping", "?verbose=1&exclude=x", "/ping", "/metal-observer"} {
				code, body := ask(http.MethodGet, path+more, header)
				assert.Equal(t, http.StatusUnauthorized, code, path+more)
				assert.NotContains(t, body, "ping", path+more)
			}
		}
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodTrace, "PROPFIND"} {
			code, body := ask(method, path, nil)
			assert.Equal(t, http.StatusMethodNotAllowed, code, "%s %s", method, path)
			assert.NotContains(t, body, "ping")
		}
		verbose, err := s.Client().Discovery().RESTClient().Get().AbsPath(path).Param("verbose", "").DoRaw(t.Context())
		require.NoError(t, err)
		assert.Contains(t, string(verbose), "[+]ping ok", "the administrator sees the checks")
	}
}

func TestYAMLLimit_RefusesLargeBodies(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Memory: true})
	client, warned := warnedClient(t, s)
	const head = "apiVersion: infrastructure.cluster.x-k8s.io/v1alpha4\nkind: MetalStackMachine\nmetadata: &m {name: node-1}\nspec: {image: " +
		simulator.MachineImage + ", machineType: " + simulator.SmallSize + "}\n"
	merges := func(n int) []byte { return []byte(head + "status:\n" + strings.Repeat("  <<: *m\n", n)) }
	create := func(body []byte) error {
		return client.InfrastructureV1alpha4().RESTClient().Post().Namespace(team).Resource("metalstackmachines").
			SetHeader("Content-Type", "application/yaml").Param("dryRun", metav1.DryRunAll).Body(body).Do(timeout(t)).Error()
	}
	err := create(merges(100_000))
	require.True(t, apierrors.IsRequestEntityTooLargeError(err), "%v", err)
	require.ErrorContains(t, err, "send JSON")
	apply := client.InfrastructureV1alpha4().RESTClient().Patch("application/apply-patch+yaml").Namespace(team).Resource("metalstackmachines").Name("node-1").
		Param("fieldManager", "test").Body(merges(100_000)).Do(timeout(t)).Error()
	require.True(t, apierrors.IsRequestEntityTooLargeError(apply), "%v", apply)

	// Not 20,000 merges: on a busy machine they take longer than the 34 s that a request may.
	require.NoError(t, create(append(merges(4_000), strings.Repeat("#\n", 16_000)...)))
	warned.take()
	require.NoError(t, create([]byte(head+"status:\n"+strings.Repeat("  ready: true\n", 10_000))))
	texts := warned.take()
	require.Len(t, texts, 20)
	assert.Contains(t, texts[19], "further warnings")
	var long strings.Builder
	long.WriteString(head)
	for i := range 300 {
		fmt.Fprintf(&long, "x%d%s: 1\n", i, strings.Repeat("f", 800))
	}
	require.NoError(t, create([]byte(long.String())))
	texts = warned.take()
	require.NotEmpty(t, texts)
	assert.Contains(t, texts[len(texts)-1], "further warnings")
	assert.LessOrEqual(t, len(strings.Join(texts, "")), 4<<10)
	for _, text := range texts {
		assert.LessOrEqual(t, len(text), 256)
	}
}
