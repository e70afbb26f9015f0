// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"math"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// FaultKind is what goes wrong.
type FaultKind string

const (
	// FaultLatency delays the answer, or one phase of an allocation, by Latency.
	FaultLatency FaultKind = "latency"
	// FaultRefused closes the connection without an answer; nothing is done.
	// Go's HTTP client tries a GET on a reused connection once more by itself.
	FaultRefused FaultKind = "refused"
	// FaultHang never answers until the caller gives up, the fault is removed
	// or the simulator is closed; nothing is done.
	FaultHang FaultKind = "hang"
	// FaultStatus answers Status with Message; nothing is done.
	FaultStatus FaultKind = "status"
	// FaultBackendDown behaves as with Backend down (372-408).
	FaultBackendDown FaultKind = "backend-down"
	// FaultCommitThenLose does the call, then cuts the connection without a reply.
	FaultCommitThenLose FaultKind = "commit-then-lose"
	// FaultCommitThenLate does the call only Latency later, and does it even
	// if the caller is gone by then.
	FaultCommitThenLate FaultKind = "commit-then-late"
	// FaultLateAnswer does the call at once, and answers Latency later what was
	// so then; it does it even if the caller is gone.
	FaultLateAnswer FaultKind = "late-answer"
	// FaultClientGone behaves as if the caller went away in the phase Phase of
	// an allocation (docs/metal-api.md, Q33 and Q34).
	FaultClientGone FaultKind = "client-gone"
	// FaultTruncatedList answers a valid list with Fraction of its entries.
	FaultTruncatedList FaultKind = "truncated-list"
	// FaultTruncatedBody cuts the answer's body in the middle.
	FaultTruncatedBody FaultKind = "truncated-body"
)

var knownKinds = map[FaultKind]bool{
	FaultLatency: true, FaultRefused: true, FaultHang: true, FaultStatus: true, FaultBackendDown: true, FaultCommitThenLose: true,
	FaultCommitThenLate: true, FaultLateAnswer: true, FaultClientGone: true, FaultTruncatedList: true, FaultTruncatedBody: true,
}

// Backends of the metal-api that can be down.
const (
	backendMasterdata = "masterdata"
	backendIPAM       = "ipam"
	backendRethinkDB  = "rethinkdb"
	backendNSQ        = "nsq"
)

// Phases of the calls that have any, in order: what Fault.Phase may name. In
// machine and firewall allocate a caller who leaves up to "lock" leaves
// nothing, in "candidate" the partition's lock, in "gather" and "networks"
// nothing, later the allocation. In network allocate one who leaves in
// "prefix" costs a VRF (and, of two address families, a prefix); later the
// network is there.
var Phases = map[string][]string{
	"machine-allocate":  {"spec", "project", "lock", "candidate", "gather", "networks", "commit", "answer"},
	"firewall-allocate": {"spec", "project", "lock", "candidate", "gather", "networks", "commit", "answer"},
	"machine-free":      {"read", "publish", "update", "answer"},
	"network-allocate":  {"project", "prefix", "store", "usage"},
	"network-free":      {"read", "prefix", "store"},
	"ip-allocate":       {"project", "ipam", "store"},
	"ip-free":           {"read", "store"},
	"machine-update":    {"update"},
	"machine-state":     {"update"},
	"network-update":    {"update"},
	"ip-update":         {"update"},
}

// Fault is one thing that goes wrong at an endpoint.
type Fault struct {
	// Endpoint is the name of an endpoint as in CallStat ("machine-allocate",
	// "machine-get", "machine-find", "machine-list", …), a prefix of names
	// with a star ("machine-*"), or "*"; empty is "*".
	Endpoint string    `json:"endpoint"`
	Kind     FaultKind `json:"kind"`
	// Latency on the simulator's clock; in nanoseconds in JSON.
	Latency time.Duration `json:"latency,omitempty"`
	// Status of FaultStatus; 0 is 503.
	Status  int    `json:"status,omitempty"`
	Message string `json:"message,omitempty"`
	// Backend is masterdata, ipam, rethinkdb or nsq.
	Backend string `json:"backend,omitempty"`
	// Phase is one of Phases, for FaultClientGone and FaultLatency.
	Phase string `json:"phase,omitempty"`
	// Times is how often it happens before it removes itself; 0: until removed.
	Times int `json:"times,omitempty"`
	// Skip lets that many matching calls pass first.
	Skip int `json:"skip,omitempty"`
	// Fraction is the share that a truncated list keeps; for other kinds the
	// probability (from the seed) that the fault strikes, 0 meaning always.
	Fraction float64 `json:"fraction,omitempty"`
	// Match restricts the fault to requests that it accepts; nil: all.
	Match func(*http.Request) bool `json:"-"`
}

type activeFault struct {
	Fault
	id      int
	removed chan struct{}
}

type faultBox struct {
	mu     sync.Mutex
	rng    *rand.Rand
	nextID int
	active []*activeFault
}

func newFaultBox(seed uint64) *faultBox {
	return &faultBox{rng: rand.New(rand.NewPCG(seed, 0xfa17))}
}

// Inject makes a fault happen from now on. remove ends it; it may be called
// more than once. Several faults of one call all happen.
func (s *Simulator) Inject(f Fault) (remove func()) {
	_, remove = s.faults.add(f)
	return remove
}

// StopAnswering hangs every call until the returned function is called.
func (s *Simulator) StopAnswering() (resume func()) {
	return s.Inject(Fault{Endpoint: "*", Kind: FaultHang})
}

func (b *faultBox) add(f Fault) (int, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nextID++
	a := &activeFault{Fault: f, id: b.nextID, removed: make(chan struct{})}
	b.active = append(b.active, a)
	return a.id, func() { b.remove(a.id) }
}

func (b *faultBox) remove(id int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.active, func(a *activeFault) bool { return a.id == id })
	if i < 0 {
		return false
	}
	close(b.active[i].removed)
	b.active = slices.Delete(b.active, i, i+1)
	return true
}

// take returns the faults that strike this call and counts them.
func (b *faultBox) take(name string, r *http.Request) []*activeFault {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.active) == 0 {
		return nil
	}
	var hit []*activeFault
	b.active = slices.DeleteFunc(b.active, func(a *activeFault) bool {
		if !matches(a.Endpoint, name) || a.Match != nil && !a.Match(r) {
			return false
		}
		if a.Skip > 0 {
			a.Skip--
			return false
		}
		if a.Kind != FaultTruncatedList && a.Fraction > 0 && b.rng.Float64() >= a.Fraction {
			return false
		}
		hit = append(hit, a)
		if a.Times == 0 {
			return false
		}
		a.Times--
		return a.Times == 0
	})
	return hit
}

func matches(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == "" || pattern == name
}

func (c *call) has(k FaultKind) (*activeFault, bool) {
	for _, f := range c.faults {
		if f.Kind == k {
			return f, true
		}
	}
	return nil, false
}

func (c *call) refused() bool {
	_, ok := c.has(FaultRefused)
	return ok
}

func (c *call) hung() bool {
	f, ok := c.has(FaultHang)
	if !ok {
		return false
	}
	select {
	case <-c.ctx.Done():
	case <-f.removed:
	case <-c.s.closed:
	}
	return true
}

// down says whether a backend is down for this call.
func (c *call) down(backend string) bool {
	for _, f := range c.faults {
		if f.Kind == FaultBackendDown && f.Backend == backend {
			return true
		}
	}
	return false
}

func (c *call) cut() bool {
	_, ok := c.has(FaultTruncatedBody)
	return ok
}

// truncate shortens lists for FaultTruncatedList.
func (c *call) truncate(answer any) any {
	f, ok := c.has(FaultTruncatedList)
	if !ok {
		return answer
	}
	v := reflect.ValueOf(answer)
	if v.Kind() != reflect.Slice {
		return answer
	}
	return v.Slice(0, int(math.Floor(float64(v.Len())*f.Fraction))).Interface()
}
