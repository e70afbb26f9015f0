// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// TestAdminAPI_OffersEveryControl: its users can do to the data centre what tests
// can.
func TestAdminAPI_OffersEveryControl(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	admin := httptest.NewServer(s.Sim.AdminHandler())
	t.Cleanup(admin.Close)
	do := func(method, path, body string, status int) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, admin.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, status, resp.StatusCode, string(b))
		return string(b)
	}
	help := do("GET", "/", "", 200)
	require.Contains(t, help, admin.URL+"/faults")

	nw := s.makeNetwork(simulator.ProjectA)
	var m simulator.MachineState
	require.NoError(t, json.Unmarshal([]byte(do("POST", "/machines/allocate",
		`{"project":"`+simulator.ProjectA+`","partition":"fra-01","size":"v1-small-x86","name":"theirs","networks":["`+nw+`"]}`, 200)), &m))
	require.Equal(t, "theirs", m.Name)
	require.Contains(t, do("GET", "/machines?allocated=true", "", 200), m.ID)
	for _, verb := range []string{"phone-home", "crash", "wake", "silence", "wake", "hang", "report-power", "wake", "lock", "unlock", "reserve", "unlock"} {
		do("POST", "/machines/"+m.ID+"/"+verb, "", 200)
	}
	do("POST", "/machines/"+m.ID+"/tags", `{"tags":["a=b"]}`, 200)
	require.Len(t, s.Sim.Inventory().AllocatedWith("a=b"), 1)
	do("POST", "/machines/"+m.ID+"/event", `{"event":"Phoned Home"}`, 200)
	do("POST", "/machines/"+m.ID+"/free", "", 200)
	require.Equal(t, 1, s.Sim.Inventory().Frees("a=b"))
	do("POST", "/machines/"+m.ID+"/recycle", "", 200)
	do("POST", "/machines/"+m.ID+"/drop-events", "", 200)
	do("POST", "/machines/nope/crash", "", 400)
	do("POST", "/machines/"+m.ID+"/explode", "", 400)

	require.Contains(t, do("POST", "/images/ubuntu-22.04.20250701/expire", `{"in":"1h"}`, 200), "expires")
	do("POST", "/images/nope/expire", `{"in":"1h"}`, 400)
	require.Contains(t, do("POST", "/reservations", `{"project":"`+simulator.ProjectB+`","partition":"fra-01","size":"c1-large-x86","amount":1}`, 200), "id")
	do("POST", "/reservations", `{"project":"nope","partition":"fra-01","size":"c1-large-x86","amount":1}`, 400)

	require.Contains(t, do("POST", "/faults", `{"endpoint":"machine-get","kind":"latency","latency":"1ms"}`, 200), `"latency": 1000000`)
	require.Contains(t, do("GET", "/faults", "", 200), "machine-get")
	do("POST", "/faults", `{"kind":"nonsense"}`, 400)
	do("DELETE", "/faults/1", "", 200)
	do("DELETE", "/faults/1", "", 400)
	do("POST", "/stop-answering", "", 200)
	do("DELETE", "/faults", "", 200)
	require.Empty(t, s.Sim.Faults())

	require.Contains(t, do("GET", "/inventory", "", 200), "History")
	require.Contains(t, do("GET", "/calls", "", 200), "network-allocate")
	require.Contains(t, do("GET", "/endpoints", "", 200), "machine-allocate")
	do("DELETE", "/calls", "", 200)
	do("POST", "/costs?on=false", "", 200)
	do("POST", "/costs?on=maybe", "", 400)
}
