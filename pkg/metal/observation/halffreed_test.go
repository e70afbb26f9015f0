// SPDX-License-Identifier: Apache-2.0

package observation

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// breakNetworks has the finds of networks fail that include one of a project, which was freed
// halfway.
func (e *env) breakNetworks(project string) {
	e.transport.Answer(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path != "/v1/network/find" {
			return nil, nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		if strings.Contains(string(body), "projectid") && !strings.Contains(string(body), project) {
			return nil, nil
		}
		return metaltest.Respond(422, "application/json", `{"statuscode":422,"message":"prefix usage for cidr:10.0.12.0/22 not found"}`)(r)
	})
}

// The namespace of its project is shown what is known, such as the internet.
func TestRefresh_OfProjectWithHalfFreedNetworkIsAnswered(t *testing.T) {
	runTest(t, envConfig{options: boundTo(simulator.ProjectA, simulator.ProjectB)}, func(t *testing.T, e *env) {
		e.breakNetworks(simulator.ProjectA)
		refresh := func(scope metal.Scope) string {
			t.Helper()
			e.sim.ResetCalls()
			var stale *metal.StaleError
			require.ErrorAs(t, e.observer.Refresh(t.Context(), scope), &stale)
			require.NotContains(t, stale.Cause.Error(), "10.0.12.0")
			return stale.Cause.Error()
		}
		require.Contains(t, refresh(networksOfA), errHalfFreed.Error())
		require.True(t, e.observer.NetworksObserved(simulator.ProjectA))
		require.Contains(t, networkIDs(e.observer.NetworksOf(simulator.ProjectA)), simulator.InternetNetwork)
		require.Contains(t, refresh(networksOfA), errHalfFreed.Error())
		require.Zero(t, allCalls(e.sim), "it is not searched again by each read")
		require.Equal(t, errNetworksNotListed.Error(), refresh(allNetworks))
		require.True(t, e.observer.AllNetworksObserved())

		e.transport.Answer(nil)
		own := e.foreignNetwork(simulator.ProjectA)
		time.Sleep(failedListInterval)
		require.NoError(t, e.observer.Refresh(t.Context(), networksOfA), "it was removed")
		require.Contains(t, networkIDs(e.observer.NetworksOf(simulator.ProjectA)), own)
	})
}

// A find that fails for another reason can succeed soon: what it would show is not left out.
func TestRefresh_OtherRefusedFindIsNoAnswer(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		e.sim.Inject(simulator.Fault{Endpoint: "network-find", Kind: simulator.FaultStatus, Status: 422, Message: "cannot search networks in database: rethinkdb: connection closed"})
		require.Error(t, e.observer.Refresh(t.Context(), networksOfA))
		require.False(t, e.observer.NetworksObserved(simulator.ProjectA))
	})
}

// What counts as observed was handed over: views show it.
func TestObserved_OnceChangesAreHandedOver(t *testing.T) {
	runTest(t, envConfig{options: boundTo(simulator.ProjectA)}, func(t *testing.T, e *env) {
		e.foreignNetwork(simulator.ProjectA)
		e.foreignIP(simulator.ProjectA, simulator.InternetNetwork)
		for name, c := range map[string]struct {
			scope    metal.Scope
			observed func() bool
		}{
			"networks of a project":  {networksOfA, func() bool { return e.observer.NetworksObserved(simulator.ProjectA) }},
			"addresses of a project": {ipsOfA, func() bool { return e.observer.IPsObserved(simulator.ProjectA) }},
			"all networks":           {allNetworks, func() bool { return e.observer.AllNetworksObserved() }},
			"all addresses":          {metal.Scope{AllIPs: true}, func() bool { return e.observer.AllIPsObserved() }},
		} {
			o := New(e.client, Options{BoundProjects: func() []string { return []string{simulator.ProjectA} }})
			e.observer = o
			o.facts.changed = func([]metal.Ref) { require.False(t, c.observed(), name) }
			require.NoError(t, o.Refresh(t.Context(), c.scope), name)
			require.True(t, c.observed(), name)
		}
	})
}
