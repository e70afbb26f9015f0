// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	metalgo "github.com/metal-stack/metal-go"
	firewallapi "github.com/metal-stack/metal-go/api/client/firewall"
	machineapi "github.com/metal-stack/metal-go/api/client/machine"
	networkapi "github.com/metal-stack/metal-go/api/client/network"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/metal-stack/security"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
)

func ref[T any](v T) *T { return &v }

// lab is a simulator over loopback HTTP with metal-go as its client.
type lab struct {
	*simtest.Server
	t testing.TB
}

func newLab(t testing.TB, cfg simulator.Config) *lab {
	t.Helper()
	return &lab{simtest.Start(t, cfg), t}
}

func (l *lab) makeNetwork(project string) string {
	l.t.Helper()
	n, err := l.Edit.Network().AllocateNetwork(networkapi.NewAllocateNetworkParams().WithBody(&models.V1NetworkAllocateRequest{
		Name: "net", Partitionid: simulator.DefaultPartition, Projectid: project,
	}), nil)
	require.NoError(l.t, err)
	return *n.Payload.ID
}

// wanted is an allocation of a small machine in a network.
func wanted(network string, tags ...string) *models.V1MachineAllocateRequest {
	return &models.V1MachineAllocateRequest{
		Name: "m", Hostname: "m", Projectid: ref(simulator.ProjectA), Partitionid: ref(simulator.DefaultPartition),
		Sizeid: ref(simulator.SmallSize), Imageid: ref(simulator.MachineImage), Tags: tags,
		Networks: []*models.V1MachineAllocationNetwork{{Networkid: &network, Autoacquire: ref(true)}},
	}
}

func (l *lab) allocate(r *models.V1MachineAllocateRequest) (*models.V1MachineResponse, error) {
	resp, err := l.Edit.Machine().AllocateMachine(machineapi.NewAllocateMachineParams().WithBody(r), nil)
	if err != nil {
		return nil, err
	}
	return resp.Payload, nil
}

func (l *lab) mustAllocate(r *models.V1MachineAllocateRequest) *models.V1MachineResponse {
	l.t.Helper()
	m, err := l.allocate(r)
	require.NoError(l.t, err)
	return m
}

func (l *lab) allocateFirewall(network string) (*models.V1FirewallResponse, error) {
	resp, err := l.Edit.Firewall().AllocateFirewall(firewallapi.NewAllocateFirewallParams().WithBody(&models.V1FirewallCreateRequest{
		Name: "fw", Hostname: "fw", Projectid: ref(simulator.ProjectA), Partitionid: ref(simulator.DefaultPartition),
		Sizeid: ref(simulator.SmallSize), Imageid: ref(simulator.FirewallImage),
		Networks: []*models.V1MachineAllocationNetwork{{Networkid: &network}, {Networkid: ref(simulator.InternetNetwork)}},
	}), nil)
	if err != nil {
		return nil, err
	}
	return resp.Payload, nil
}

func (l *lab) free(id string) error {
	_, err := l.Edit.Machine().FreeMachine(machineapi.NewFreeMachineParams().WithID(id), nil)
	return err
}

func (l *lab) get(id string) *models.V1MachineResponse {
	l.t.Helper()
	m, err := l.View.Machine().FindMachine(machineapi.NewFindMachineParams().WithID(id), nil)
	require.NoError(l.t, err)
	return m.Payload
}

func (l *lab) find(q *models.V1MachineFindRequest) []*models.V1MachineResponse {
	l.t.Helper()
	m, err := l.View.Machine().FindMachines(machineapi.NewFindMachinesParams().WithBody(q), nil)
	require.NoError(l.t, err)
	return m.Payload
}

// refused requires an answer with this status and these words.
func refused(t testing.TB, err error, status int, words string) {
	t.Helper()
	require.Error(t, err)
	coded, ok := err.(interface{ Code() int })
	require.True(t, ok, "%T: %v", err, err)
	require.Equal(t, status, coded.Code(), err.Error())
	require.ErrorContains(t, err, words)
}

var _ metalgo.Client

// bubble asks a simulator's handler directly, for tests in a synctest bubble,
// where time passes by itself when all wait and nothing leaves the process.
type bubble struct {
	t   testing.TB
	sim *simulator.Simulator
}

func newBubble(t testing.TB, cfg simulator.Config) *bubble {
	t.Helper()
	sim, err := simulator.New(cfg)
	require.NoError(t, err)
	return &bubble{t, sim}
}

// reply is an answer; Status 0 is none.
type reply struct {
	Status  int
	Body    json.RawMessage
	Message string // of an error
	Took    time.Duration
}

func (b *bubble) ask(method, path string, body any) reply {
	return b.askFor(context.Background(), method, path, body)
}

// askFor goes away when ctx is done.
func (b *bubble) askFor(ctx context.Context, method, path string, body any) (r reply) {
	start := time.Now()
	raw, err := json.Marshal(body)
	require.NoError(b.t, err)
	req := httptest.NewRequestWithContext(ctx, method, path, bytes.NewReader(raw))
	req.Header.Set("Content-Type", "application/json")
	mac := security.NewHMACAuth("Metal-Admin", []byte(simulator.DefaultHMAC.Admin))
	mac.AddAuth(req, time.Now(), nil)
	w := httptest.NewRecorder()
	defer func() {
		r.Took = time.Since(start)
		if p := recover(); p != nil {
			require.Equal(b.t, http.ErrAbortHandler, p)
			r = reply{Took: r.Took}
		}
	}()
	b.sim.Handler().ServeHTTP(w, req)
	r.Status, r.Body = w.Code, w.Body.Bytes()
	if r.Status >= 400 {
		var inner string
		var e struct{ Message string }
		require.NoError(b.t, json.Unmarshal(r.Body, &inner))
		if json.Unmarshal([]byte(inner), &e) == nil {
			r.Message = e.Message
		} else {
			r.Message = inner
		}
	}
	return r
}

func (b *bubble) makeNetwork(project string) string {
	b.t.Helper()
	id, err := b.sim.AllocateNetworkFor(project, simulator.DefaultPartition, "net", nil)
	require.NoError(b.t, err)
	return id
}

func (b *bubble) allocate(r *models.V1MachineAllocateRequest) reply {
	return b.ask("POST", "/v1/machine/allocate", r)
}

// leaving is an allocation whose caller goes away after a while.
func (b *bubble) leaving(after time.Duration, r *models.V1MachineAllocateRequest) reply {
	ctx, cancel := context.WithTimeout(context.Background(), after)
	defer cancel()
	return b.askFor(ctx, "POST", "/v1/machine/allocate", r)
}

func into[T any](t testing.TB, r reply) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal(r.Body, &v), string(r.Body))
	return v
}
