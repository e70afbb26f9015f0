// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	healthapi "github.com/metal-stack/metal-go/api/client/health"
	machineapi "github.com/metal-stack/metal-go/api/client/machine"
	networkapi "github.com/metal-stack/metal-go/api/client/network"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestFault_LostReplyIsCommitted(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	nw := s.makeNetwork(simulator.ProjectA)
	s.Sim.Inject(simulator.Fault{Endpoint: "machine-allocate", Kind: simulator.FaultCommitThenLose, Times: 1})
	_, err := s.allocate(wanted(nw, "uid=1"))
	var lost *url.Error
	require.ErrorAs(t, err, &lost)
	require.Len(t, s.Sim.Inventory().AllocatedWith("uid=1"), 1)
	_, err = s.allocate(wanted(nw, "uid=2"))
	require.NoError(t, err, "once")
}

func TestFault_LateCommitFollowsCancellation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{})
		nw := b.makeNetwork(simulator.ProjectA)
		b.sim.Inject(simulator.Fault{Endpoint: "machine-allocate", Kind: simulator.FaultCommitThenLate, Latency: 20 * time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go b.askFor(ctx, "POST", "/v1/machine/allocate", wanted(nw, "uid=1"))
		time.Sleep(19 * time.Second)
		require.Empty(t, b.sim.Inventory().AllocatedWith("uid=1"))
		time.Sleep(2 * time.Second)
		require.Len(t, b.sim.Inventory().AllocatedWith("uid=1"), 1)
	})
}

// TestFault_LateReplyIsSnapshot: a late answer has the state of the time of
// the request.
func TestFault_LateReplyIsSnapshot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{})
		nw := b.makeNetwork(simulator.ProjectA)
		b.sim.Inject(simulator.Fault{Endpoint: "network-get", Kind: simulator.FaultLateAnswer, Latency: 20 * time.Second, Times: 1})
		late := make(chan reply)
		go func() { late <- b.askFor(t.Context(), "GET", "/v1/network/"+nw, nil) }()
		synctest.Wait()
		require.Equal(t, http.StatusOK, b.askFor(t.Context(), "DELETE", "/v1/network/free/"+nw, nil).Status)
		require.Equal(t, http.StatusNotFound, b.askFor(t.Context(), "GET", "/v1/network/"+nw, nil).Status)
		answer := <-late
		require.Equal(t, http.StatusOK, answer.Status)
		require.GreaterOrEqual(t, answer.Took, 20*time.Second)
	})
}

func TestFault_RefusedCallDoesNothing(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	nw := s.makeNetwork(simulator.ProjectA)
	remove := s.Sim.Inject(simulator.Fault{Endpoint: "machine-*", Kind: simulator.FaultRefused})
	_, err := s.allocate(wanted(nw))
	var lost *url.Error
	require.ErrorAs(t, err, &lost)
	require.Empty(t, s.Sim.Inventory().AllocatedIn(simulator.ProjectA))
	s.makeNetwork(simulator.ProjectA)
	remove()
	remove()
	s.mustAllocate(wanted(nw))
}

func TestFault_StatusMatchSkipAndCount(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	ids := s.Sim.MachineIDs()
	s.Sim.Inject(simulator.Fault{
		Endpoint: "machine-get", Kind: simulator.FaultStatus, Status: 503, Message: "later", Skip: 1, Times: 2,
		Match: func(r *http.Request) bool { return r.URL.Path == "/v1/machine/"+ids[0] },
	})
	ask := func(id string) error {
		_, err := s.View.Machine().FindMachine(machineapi.NewFindMachineParams().WithID(id), nil)
		return err
	}
	require.NoError(t, ask(ids[0]))
	refused(t, ask(ids[0]), 503, "later")
	require.NoError(t, ask(ids[1]))
	refused(t, ask(ids[0]), 503, "later")
	require.NoError(t, ask(ids[0]))
	require.Empty(t, s.Sim.Faults())
}

// TestFault_TruncatedListIsValid: a truncated list is valid JSON with fewer
// entries.
func TestFault_TruncatedListIsValid(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	remove := s.Sim.Inject(simulator.Fault{Endpoint: "machine-list", Kind: simulator.FaultTruncatedList, Fraction: 0.5})
	l, err := s.View.Machine().ListMachines(machineapi.NewListMachinesParams(), nil)
	require.NoError(t, err)
	require.Len(t, l.Payload, 4)
	remove()
	s.Sim.Inject(simulator.Fault{Endpoint: "network-list", Kind: simulator.FaultTruncatedList})
	n, err := s.View.Network().ListNetworks(networkapi.NewListNetworksParams(), nil)
	require.NoError(t, err)
	require.Empty(t, n.Payload)
}

func TestFault_TruncatedBodyIsError(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	s.Sim.Inject(simulator.Fault{Endpoint: "machine-list", Kind: simulator.FaultTruncatedBody})
	_, err := s.View.Machine().ListMachines(machineapi.NewListMachinesParams(), nil)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// TestFault_HangingCallEnds: a hanging call ends when the caller gives up, or
// when the fault is cleared.
func TestFault_HangingCallEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{})
		resume := b.sim.StopAnswering()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		require.Equal(t, time.Hour, b.askFor(ctx, "GET", "/v1/machine", nil).Took)
		go func() {
			time.Sleep(time.Minute)
			resume()
		}()
		require.Equal(t, time.Minute, b.ask("GET", "/v1/machine", nil).Took)
		require.Equal(t, 200, b.ask("GET", "/v1/machine", nil).Status)
	})
}

func TestFault_LatencyUsesClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, simulator.Config{})
		b.sim.Inject(simulator.Fault{Kind: simulator.FaultLatency, Latency: time.Minute, Times: 1})
		r := b.ask("GET", "/v1/machine", nil)
		require.Equal(t, 200, r.Status)
		require.Equal(t, time.Minute, r.Took)
		require.Zero(t, b.ask("GET", "/v1/machine", nil).Took)
	})
}

// TestBackendDown_IsUnprocessableWithItsMessage: a backend that is down is
// answered 422, with its own message.
func TestBackendDown_IsUnprocessableWithItsMessage(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		backend              string
		get, network, create int
		machine              int
		words                string
	}{
		{"masterdata", 200, 200, 422, 422, "rpc error: code = Unavailable"},
		{"ipam", 200, 422, 422, 422, "unavailable: dial tcp"},
		{"rethinkdb", 422, 422, 422, 400, "rethinkdb: dial tcp"},
		{"nsq", 200, 200, 201, 200, ""},
	} {
		s := newLab(t, simulator.Config{})
		b := &bubble{t, s.Sim}
		nw := s.makeNetwork(simulator.ProjectA)
		s.Sim.Inject(simulator.Fault{Kind: simulator.FaultBackendDown, Backend: tc.backend})
		require.Equal(t, tc.get, b.ask("GET", "/v1/machine/"+s.Sim.MachineIDs()[0], nil).Status, tc.backend)
		require.Equal(t, tc.network, b.ask("GET", "/v1/network/"+nw, nil).Status, tc.backend)
		made := b.ask("POST", "/v1/network/allocate", map[string]string{"projectid": simulator.ProjectA, "partitionid": simulator.DefaultPartition})
		require.Equal(t, tc.create, made.Status, tc.backend)
		require.Contains(t, made.Message, tc.words)
		require.Equal(t, tc.machine, b.allocate(wanted(nw)).Status, tc.backend)

		_, err := s.View.Health().Health(healthapi.NewHealthParams(), nil)
		if tc.backend == "nsq" {
			require.NoError(t, err, "health does not ask nsq")
			freed := b.ask("DELETE", "/v1/machine/"+s.Sim.Inventory().AllocatedIn(simulator.ProjectA)[0].ID+"/free", nil)
			require.Equal(t, 422, freed.Status)
			require.Contains(t, freed.Message, "cannot publish delete event: ")
		} else {
			var down *healthapi.HealthInternalServerError
			require.True(t, errors.As(err, &down), "%T", err)
			require.Equal(t, "partial-outage", *down.Payload.Status)
		}
	}
}

// TestMachineAllocate_IPAMOutageLeavesMachineInPool: the IPAM fails in the
// middle of the allocation.
func TestMachineAllocate_IPAMOutageLeavesMachineInPool(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	nw := s.makeNetwork(simulator.ProjectA)
	remove := s.Sim.Inject(simulator.Fault{Kind: simulator.FaultBackendDown, Backend: "ipam"})
	for range 10 {
		_, err := s.allocate(wanted(nw))
		refused(t, err, 422, "unable to make networks:unable to allocate an ip in network: "+nw)
	}
	remove()
	for range 6 {
		s.mustAllocate(wanted(nw))
	}
}
