package metal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// bed is a simulator with a client and an observer on it, without a network
// between them: so that all of it runs in the time of a synctest bubble.
type bed struct {
	t      *testing.T
	sim    *simulator.Simulator
	wire   *inProcess
	client *Client
	obs    *Observer
	// stops stop observers that run.
	stops []func()

	mu      sync.Mutex
	changes [][]Ref
	named   []Ref
}

type bedConfig struct {
	machines int
	costs    bool
	options  ObserverOptions
	timeouts Timeouts
	sim      simulator.Config
}

// inBed runs a test in a bubble.
func inBed(t *testing.T, cfg bedConfig, test func(t *testing.T, b *bed)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, cfg)
		// Whatever is still under way comes to its end. The observer does not go
		// on meanwhile, which would take longer than the test.
		defer time.Sleep(10 * time.Minute)
		defer func() {
			for _, stop := range b.stops {
				stop()
			}
		}()
		defer b.sim.Close()
		test(t, b)
	})
}

func newBed(t *testing.T, cfg bedConfig) *bed {
	if cfg.machines == 0 {
		cfg.machines = 8
	}
	cfg.sim.Costs = cfg.costs
	cfg.sim.DataCentre = simulator.DefaultDataCentre(cfg.machines)
	sim, err := simulator.New(cfg.sim)
	require.NoError(t, err)
	b := &bed{t: t, sim: sim, wire: &inProcess{handler: sim.Handler()}}
	b.client, err = NewClient(Options{
		URL: "http://metal-api.test", HMAC: simulator.DefaultHMAC.Edit, AuthType: AuthEdit,
		Transport: b.wire, Timeouts: cfg.timeouts,
	})
	require.NoError(t, err)
	cfg.options.Changed = func(refs []Ref) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.changes = append(b.changes, refs)
	}
	if cfg.options.Named == nil {
		cfg.options.Named = func() []Ref {
			b.mu.Lock()
			defer b.mu.Unlock()
			return slices.Clone(b.named)
		}
	}
	b.obs = NewObserver(b.client, cfg.options)
	return b
}

// run runs the observer until the test ends or stop is called.
func (b *bed) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.obs.Run(ctx)
	}()
	stopped := sync.OnceFunc(func() { cancel(); <-done })
	b.stops = append(b.stops, stopped)
	return stopped
}

// swept makes one sweep.
func (b *bed) swept() {
	b.t.Helper()
	require.NoError(b.t, b.obs.sweep(b.t.Context()))
}

func (b *bed) name(refs ...Ref) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.named = append(b.named, refs...)
}

// told returns what Changed was told since the last call.
func (b *bed) told() []Ref {
	b.mu.Lock()
	defer b.mu.Unlock()
	told := slices.Concat(b.changes...)
	b.changes = nil
	return told
}

// allocated lets somebody else allocate machines, each with a network of the
// project, and returns their ids.
func (b *bed) allocated(project string, n int) (ids []string) {
	b.t.Helper()
	network := b.network(project)
	for i := range n {
		id, err := b.sim.AllocateFor(simulator.AllocateRequest{
			Project: project, Name: fmt.Sprintf("m-%d", i), Size: simulator.SmallSize,
			Partition: simulator.DefaultPartition, Networks: []string{network},
		})
		require.NoError(b.t, err)
		ids = append(ids, id)
	}
	return ids
}

func (b *bed) network(project string) string {
	b.t.Helper()
	n, err := b.client.AllocateNetwork(b.t.Context(), NetworkRequest{Project: project, Partition: simulator.DefaultPartition, Name: "net"})
	require.NoError(b.t, err)
	return n.ID
}

// request is a machine of the usual kind.
func (b *bed) request(network string) MachineRequest {
	return MachineRequest{
		Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize,
		Image: simulator.MachineImage, Name: "node-1", Hostname: "node-1", Networks: []string{network},
		Tags: []string{Tag(TagUID, "uid-1")}, UserData: []byte("#cloud-config\npassword: hunter22\n"),
	}
}

func (b *bed) machine(id string) *Machine {
	b.t.Helper()
	m, presence := b.obs.Machine(id)
	require.Equal(b.t, Present, presence)
	return m
}

// inProcess is an HTTP transport that calls a handler.
type inProcess struct {
	handler http.Handler

	mu sync.Mutex
	// before and after, if set, are called around the handler, and can wait.
	before, after func(*http.Request)
	// instead, if it returns an answer, stands for the handler.
	instead func(*http.Request) (*http.Response, error)
}

func (p *inProcess) hooks() (before, after func(*http.Request), instead func(*http.Request) (*http.Response, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.before, p.after, p.instead
}

func (p *inProcess) set(before, after func(*http.Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before, p.after = before, after
}

func (p *inProcess) answer(instead func(*http.Request) (*http.Response, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instead = instead
}

// RoundTrip implements http.RoundTripper.
func (p *inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	before, after, instead := p.hooks()
	if before != nil {
		before(r)
	}
	if instead != nil {
		if response, err := instead(r); response != nil || err != nil {
			return response, err
		}
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	done := make(chan bool, 1)
	go func() {
		cut := true
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler {
				panic(v)
			}
			done <- cut
		}()
		p.handler.ServeHTTP(recorder, r)
		cut = false
	}()
	var cut bool
	select {
	case cut = <-done:
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if after != nil {
		after(r)
	}
	if cut && recorder.Body.Len() == 0 {
		return nil, errors.New("EOF")
	}
	response := recorder.Result()
	if cut {
		response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(recorder.Body.Bytes()), broken{}))
	}
	return response, nil
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func respond(status int, contentType, body string) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
			Header: http.Header{"Content-Type": {contentType}},
			Body:   io.NopCloser(bytes.NewReader([]byte(body))),
		}, nil
	}
}

const soon = 100 * time.Millisecond
