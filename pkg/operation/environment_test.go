// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/catalogue"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

const (
	teamA      = "team-a"
	teamB      = "team-b"
	exactImage = simulator.MachineImage + ".20260101"
)

// environment is a simulated metal-api and records, for any number of Operators.
type environment struct {
	t         testing.TB
	sim       *simulator.Simulator
	clock     *clocktesting.FakeClock
	client    *metalclient.Client
	facts     *facts
	machines  *records[*infrastructure.MetalStackMachine]
	firewalls *records[*infrastructure.MetalStackFirewall]
	bindings  *tenancy.Static
	events    *events
	logs      *logBuffer
	network   string
	o         *Operator
	protocol  *allocation.Protocol
}

func newEnvironment(t testing.TB) *environment {
	t.Helper()
	clock := clocktesting.NewFakeClock(time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC))
	srv := simtest.Start(t, simulator.Config{Clock: clock, Seed: 7, PowerReportInterval: -1})
	bindings, err := tenancy.NewStatic([]string{teamA + "=" + simulator.ProjectA, teamB + "=" + simulator.ProjectB})
	require.NoError(t, err)
	env := &environment{
		t: t, sim: srv.Sim, clock: clock, bindings: bindings, events: &events{}, logs: &logBuffer{}, facts: &facts{},
		machines: &records[*infrastructure.MetalStackMachine]{}, firewalls: &records[*infrastructure.MetalStackFirewall]{},
	}
	env.client, err = metalclient.New(metalclient.Options{URL: srv.URL, HMAC: srv.Key("Metal-Edit"), AuthType: metalclient.AuthEdit})
	require.NoError(t, err)
	env.network, err = env.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "net", nil)
	require.NoError(t, err)
	env.o = env.newOperator()
	env.protocol = env.o.opts.Protocol
	return env
}

// newOperator is that of another server with the same records and metal-api.
func (env *environment) newOperator() *Operator {
	p := allocation.New(allocation.Options{
		Machines: env.machines, Firewalls: env.firewalls, Clusters: &records[*infrastructure.MetalStackCluster]{},
		Metal: env.client, Observer: env.facts, Bindings: env.bindings, ManagementCluster: "c", Clock: env.clock,
	})
	env.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := p.Shutdown(ctx); err != nil {
			env.t.Errorf("shutdown: %v", err)
		}
	})
	return New(Options{
		Protocol: p, Metal: env.client, Facts: env.facts, Catalogue: catalogue.New(env.client, env.clock), Bindings: env.bindings,
		Events: env.events, Clock: env.clock,
	})
}

func (env *environment) context() context.Context {
	logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(env.logs), textlogger.Verbosity(9)))
	return klog.NewContext(context.Background(), logger)
}

// machine is a MetalStackMachine that holds metal, which has phoned home.
func (env *environment) machine(name string) *infrastructure.MetalStackMachine {
	env.t.Helper()
	m := &infrastructure.MetalStackMachine{ObjectMeta: env.objectMeta(name)}
	m.Status.Allocation = env.allocate(m.UID, false)
	return env.machines.put(m)
}

func (env *environment) firewall(name string) *infrastructure.MetalStackFirewall {
	env.t.Helper()
	f := &infrastructure.MetalStackFirewall{ObjectMeta: env.objectMeta(name)}
	f.Status.Allocation = env.allocate(f.UID, true)
	return env.firewalls.put(f)
}

func (env *environment) objectMeta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: teamA, Name: name, UID: types.UID(uuid.NewString()), ResourceVersion: "7"}
}

// allocate has metal allocated for an object; without a uid, for none.
func (env *environment) allocate(uid types.UID, firewall bool) *infrastructure.MachineAllocation {
	env.t.Helper()
	request := simulator.AllocateRequest{
		Project: simulator.ProjectA, Name: "m", Size: simulator.SmallSize, Partition: simulator.DefaultPartition,
		Networks: []string{env.network}, Firewall: firewall,
	}
	if uid != "" {
		request.Tags = []string{metal.Tag(metal.TagUID, string(uid))}
	}
	if firewall {
		request.Networks = append(request.Networks, simulator.InternetNetwork)
	}
	id, err := env.sim.AllocateFor(request)
	require.NoError(env.t, err)
	require.NoError(env.t, env.sim.ReportInstalled(id))
	require.NoError(env.t, env.sim.PhoneHome(id))
	m := env.observe(id)
	a := &infrastructure.MachineAllocation{MachineID: id, AllocationUUID: m.AllocationUUID()}
	a.Phase, a.UID = infrastructure.AllocationAllocated, uid
	return a
}

// observe has the machine observed.
func (env *environment) observe(id string) *metal.Machine {
	env.t.Helper()
	m, err := env.client.Machine(context.Background(), id)
	require.NoError(env.t, err)
	env.facts.LearnMachine(m)
	return m
}

func (env *environment) get(name string) *infrastructure.MetalStackMachine {
	m, err := env.machines.Get(context.Background(), teamA, name)
	require.NoError(env.t, err)
	return m
}

func target(name string) Target {
	return Target{Kind: "MetalStackMachine", Namespace: teamA, Name: name, User: "alice@example.org"}
}

func (env *environment) power(o *Operator, name string, action infrastructure.PowerAction, requestID string) error {
	_, err := o.RequestPower(env.context(), target(name), infrastructure.MachinePowerSpec{Action: action, RequestID: requestID, Reason: "it hangs"})
	return err
}

// calls are the names of the endpoints that change something, or read a password, and how often
// each was called.
func (env *environment) calls() map[string]int {
	calls := map[string]int{}
	for _, c := range env.sim.Calls() {
		switch c.Endpoint {
		case "machine-power", "machine-reinstall", "machine-state", "machine-consolepassword", "machine-free", "machine-allocate":
			calls[c.Endpoint] = c.Calls
		}
	}
	return calls
}

// crashAt makes a server crash when it comes to a crash point.
func crashAt(o *Operator, step string) {
	o.opts.CrashPoint = func(name string) {
		if name == step {
			runtime.Goexit()
		}
	}
}

// verbs are all operations that call.
func (env *environment) verbs(ctx context.Context, o *Operator, t Target) map[string]error {
	errs := map[string]error{}
	_, errs["power"] = o.RequestPower(ctx, t, infrastructure.MachinePowerSpec{Action: infrastructure.PowerReset})
	_, errs["identify"] = o.Identify(ctx, t, infrastructure.MachineIdentifySpec{State: infrastructure.LEDOn})
	_, errs["consolepassword"] = o.ConsolePassword(ctx, t, infrastructure.MachineConsolePasswordSpec{Reason: "no ssh any more"})
	_, errs["lock"] = o.Lock(ctx, t, infrastructure.MachineLockSpec{Reason: "hold"})
	_, errs["unlock"] = o.Unlock(ctx, t, "go on")
	_, errs["reinstall"] = o.Reinstall(ctx, t, infrastructure.MachineReinstallSpec{Image: exactImage, Reason: "broken"})
	return errs
}

func requireCode(t testing.TB, code int, err error, words ...string) {
	t.Helper()
	status, ok := errors.AsType[*apierrors.StatusError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, int32(code), status.ErrStatus.Code, "%v", err)
	for _, w := range words {
		require.ErrorContains(t, err, w)
	}
}

// records are Records in memory, with compare-and-swap.
type records[T kruntime.Object] struct {
	mu      sync.Mutex
	objects map[string]T
	// fail, if set, is asked before each write, and after it.
	fail func(when string) error
}

func (r *records[T]) put(obj T) T {
	r.mu.Lock()
	defer r.mu.Unlock()
	m, _ := meta.Accessor(obj)
	if r.objects == nil {
		r.objects = map[string]T{}
	}
	r.objects[m.GetNamespace()+"/"+m.GetName()] = obj.DeepCopyObject().(T)
	return obj
}

func (r *records[T]) Get(_ context.Context, namespace, name string) (none T, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	obj, ok := r.objects[namespace+"/"+name]
	if !ok {
		return none, apierrors.NewNotFound(infrastructure.Resource("metalstackmachines"), name)
	}
	return obj.DeepCopyObject().(T), nil
}

func (r *records[T]) Update(ctx context.Context, namespace, name string, change func(T) error) (none T, _ error) {
	for {
		before, err := r.Get(ctx, namespace, name)
		if err != nil {
			return none, err
		}
		after := before.DeepCopyObject().(T)
		if err := change(after); err != nil {
			return none, err
		}
		if r.fail != nil {
			if err := r.fail("before"); err != nil {
				return none, err
			}
		}
		r.mu.Lock()
		swapped := reflect.DeepEqual(r.objects[namespace+"/"+name], before)
		if swapped {
			r.objects[namespace+"/"+name] = after
		}
		r.mu.Unlock()
		if !swapped {
			continue
		}
		if r.fail != nil {
			if err := r.fail("after"); err != nil {
				return none, err
			}
		}
		return after.DeepCopyObject().(T), nil
	}
}

func (r *records[T]) List(context.Context) (all []T, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, obj := range r.objects {
		all = append(all, obj.DeepCopyObject().(T))
	}
	return all, nil
}

func (r *records[T]) Changes() func() ([]types.NamespacedName, bool) {
	return func() ([]types.NamespacedName, bool) { return nil, false }
}

// facts are what was observed.
type facts struct {
	mu       sync.Mutex
	machines map[string]*metal.Machine
}

func (f *facts) Machine(id string) (*metal.Machine, metal.Presence) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, known := f.machines[id]
	switch {
	case !known:
		return nil, metal.Unobserved
	case m == nil:
		return nil, metal.Gone
	}
	return m, metal.Present
}

func (f *facts) LearnMachine(m *metal.Machine) { f.set(m.ID, m) }

func (f *facts) set(id string, m *metal.Machine) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.machines == nil {
		f.machines = map[string]*metal.Machine{}
	}
	f.machines[id] = m
}

func (*facts) MachinesByUID(string) []*metal.Machine                         { return nil }
func (*facts) Identified() ([]*metal.Machine, []*metal.Network, []*metal.IP) { return nil, nil, nil }
func (*facts) LearnNetwork(*metal.Network)                                   {}
func (*facts) LearnIP(*metal.IP)                                             {}
func (*facts) LearnFreed(metal.Ref)                                          {}

// events are a Recorder.
type events struct {
	mu   sync.Mutex
	all  []Event
	fail error
}

func (e *events) Record(_ context.Context, event Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fail != nil {
		return e.fail
	}
	e.all = append(e.all, event)
	return nil
}

// taken returns the events since it was called last.
func (e *events) taken() []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.all
	e.all = nil
	return all
}

func (e *events) reasons() (reasons []string) {
	for _, event := range e.taken() {
		reasons = append(reasons, event.Reason)
	}
	return reasons
}

func (e *events) notes() (notes []string) {
	for _, event := range e.taken() {
		notes = append(notes, event.Note)
	}
	return notes
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// everything is what was logged, recorded and said in events, as text.
func (env *environment) everything() string {
	var b strings.Builder
	b.WriteString(env.logs.String())
	for _, e := range env.events.taken() {
		fmt.Fprintf(&b, "%+v\n", e)
	}
	all, _ := env.machines.List(context.Background())
	for _, m := range all {
		fmt.Fprintf(&b, "%+v %+v\n", m, m.Status.LastOperation)
	}
	return b.String()
}

// down has the metal-api answer an endpoint with a status.
func (env *environment) down(endpoint string, status int, message string) (up func()) {
	return env.sim.Inject(simulator.Fault{Endpoint: endpoint, Kind: simulator.FaultStatus, Status: status, Message: message})
}

// withoutQueue stops nsqd.
func (env *environment) withoutQueue() (up func()) {
	return env.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultBackendDown, Backend: "nsq"})
}
