// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// Config says what is simulated. The zero value is useful: seed 0, the real
// clock, machines that do not move by themselves, no costs, and
// DefaultDataCentre(8).
type Config struct {
	// Clock is the source of all time but one: timestamps, life cycles,
	// answer times and lock expiries. (The age of a request's X-Date is
	// checked against the real clock, because clients stamp it with that.)
	// nil is the real clock.
	Clock clock.WithTicker
	// Seed is where everything random comes from: ids, the order of lists,
	// which machine is chosen. Requests made one after the other get the
	// same answers under the same seed.
	Seed uint64
	// Speed is how fast machines move from step to step of their lives: 1
	// as in reality (about two minutes from allocation to Phoned Home), 60
	// sixty times as fast, 0 not at all: then SendEvent, PhoneHome and
	// Recycle move them. Machines that are on send signs of life at any
	// speed, see Silence.
	Speed float64
	// PowerReportInterval is how often metal-bmc reports which machines have power. 0
	// is five minutes divided by Speed, and not at all at Speed 0: then ReportPower does.
	// Less than 0: whatever is asked for was reported just now.
	PowerReportInterval time.Duration
	// HMAC are the keys of the three technical users; empty ones get
	// DefaultHMAC's.
	HMAC HMACKeys
	// Costs makes answers take as long as a real metal-api's
	// (docs/metal-api.md, Q63), waited for on Clock. See SetCosts.
	Costs bool
	// Lag is how long the work behind an answer takes: clean-up of the
	// addresses of one freed machine or failed allocation, and the machine's
	// noticing its allocation. 0 is 13.5 ms with Costs and none without.
	Lag time.Duration
	// DataCentre is the inventory; nil is DefaultDataCentre(8).
	DataCentre *DataCentre
	// Compact leaves out the indentation of answers.
	Compact bool
	// BasePath is where the API is served, "/metal" for example; empty is
	// the root. Requests outside of it get the router's 404.
	BasePath string
	// Version is the metal-api's; empty is v0.44.1. Up to v0.43.3 a machine
	// quota that was stored empty is a quota of none
	// (docs/metal-api.md, Q60; 303-325 of both versions).
	Version string
	// Pick chooses where the real one takes any: among the machines that are
	// equally good for an allocation by size, and which address family's
	// prefix a dual-stack network has first ("IPv4", "IPv6"). nil, or an
	// answer that is no candidate, leaves it to the seed, and IPv4 first.
	Pick func(candidates []string) string
}

// HMACKeys are the shared secrets of metal-stack's technical users.
type HMACKeys struct {
	Admin, Edit, View string
}

// DefaultHMAC are the keys that a Config without keys gets. They protect
// nothing: the simulator listens on loopback.
var DefaultHMAC = HMACKeys{
	Admin: "metal-admin",
	Edit:  "metal-edit",
	View:  "metal-view",
}

// Simulator is one metal-api with its data centre. It is safe for
// concurrent use.
type Simulator struct {
	clock   clock.WithTicker
	speed   float64
	cfg     Config
	started time.Time
	users   atomic.Pointer[[]user]
	routes  *router
	stats   *stats
	faults  *faultBox

	closed    chan struct{}
	closeOnce sync.Once

	// mu guards all that follows. Whoever takes it does so through enter,
	// which first lets everything happen that is due.
	mu       sync.Mutex
	costs    bool
	slowdown float64
	// reasonLength is how long a reason for a console password has to be.
	reasonLength int
	rng          *rand.Rand
	schedule     schedule
	wake         chan struct{}
	machines     map[string]*node
	order        []*node
	quiet        map[*node]struct{}
	networks     map[string]*network
	netOrder     []string
	ips          map[string]*ip
	ipOrder      []string
	ipsOf        map[string]map[string]struct{} // by machine
	projects     map[string]*project
	projIDs      []string
	tenants      map[string]*wire.Tenant
	tenIDs       []string
	cat          *catalogue
	ipam         *ipam
	vrfs         *pool
	asns         *pool
	locks        map[string]*partitionLock
	cleanups     cleanupQueue
	history      []Operation
}

// New builds the data centre. It fails if the inventory contradicts itself
// (a machine of a size or in a partition that is not there, say).
func New(cfg Config) (*Simulator, error) {
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.DataCentre == nil {
		cfg.DataCentre = DefaultDataCentre(8)
	}
	s := &Simulator{
		clock:    cfg.Clock,
		speed:    cfg.Speed,
		cfg:      cfg,
		started:  cfg.Clock.Now(),
		costs:    cfg.Costs,
		slowdown: 1,
		closed:   make(chan struct{}),
		wake:     make(chan struct{}, 1),
		rng:      rand.New(rand.NewPCG(cfg.Seed, 0x6d6574616c)),
		machines: map[string]*node{},
		quiet:    map[*node]struct{}{},
		networks: map[string]*network{},
		ips:      map[string]*ip{},
		ipsOf:    map[string]map[string]struct{}{},
		projects: map[string]*project{},
		tenants:  map[string]*wire.Tenant{},
		ipam:     newIPAM(),
		vrfs:     newPool(),
		asns:     newPool(),
		locks:    map[string]*partitionLock{},
		stats:    newStats(),
		faults:   newFaultBox(cfg.Seed),
	}
	s.ChangeKeys(cfg.HMAC)
	s.routes = s.newRouter()
	s.lock()
	defer s.unlock()
	if err := s.build(cfg.DataCentre); err != nil {
		return nil, fmt.Errorf("building the data centre: %w", err)
	}
	s.at(s.started.Add(livelinessInterval), s.livelinessCron)
	return s, nil
}

// Handler is the REST surface at BasePath/v1/….
func (s *Simulator) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// Close ends every wait in the simulator, so that requests under way come to
// their end at once. A server that is being shut down calls it first.
func (s *Simulator) Close() {
	s.closeOnce.Do(func() { close(s.closed) })
}

// Run lets things happen when they are due: the machines' lives, the
// liveliness cron job, clean-ups. Everything that looks at the simulator
// (a request, Inventory) lets them happen first, too, so Run is only needed where
// nobody looks for long.
func (s *Simulator) Run(ctx context.Context) {
	for {
		s.lock()
		next, ok := s.schedule.next()
		s.unlock()
		wait := time.Minute
		if ok {
			wait = max(next.Sub(s.clock.Now()), 0)
		}
		timer := s.clock.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.closed:
			timer.Stop()
			return
		case <-s.wake:
		case <-timer.C():
		}
		timer.Stop()
	}
}

// Advance does everything that is due now by the clock and returns how many
// things that were.
func (s *Simulator) Advance() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.catchUp()
}

// SetCosts switches the answer times of the cost table on or off.
func (s *Simulator) SetCosts(on bool) {
	s.lock()
	defer s.unlock()
	s.costs = on
}

// SetSlowdown makes answers take so many times as long as the cost table says,
// as those of a metal-api do that is busy with other clients; 1 is the beginning.
// It needs costs.
func (s *Simulator) SetSlowdown(times float64) {
	s.lock()
	defer s.unlock()
	s.slowdown = times
}

// SetReasonLength demands a reason of that length for console passwords, as a metal-api does
// that is started with --password-reason-minlength (2/108-114); 0 is the beginning.
func (s *Simulator) SetReasonLength(characters int) {
	s.lock()
	defer s.unlock()
	s.reasonLength = characters
}

// Now is the simulator's time.
func (s *Simulator) Now() time.Time { return s.clock.Now() }

// Machines returns the number of machines.
func (s *Simulator) Machines() int {
	s.lock()
	defer s.unlock()
	return len(s.order)
}
