package simulator

import (
	"context"
	"net/http"
	"time"

	"k8s.io/utils/clock"
)

// Config says what is simulated. The zero value is useful: an empty seed,
// the real clock, machines that do not move by themselves, no costs, and
// DefaultDataCentre(8).
type Config struct {
	// Clock is the source of all time: timestamps, life cycles, answer
	// times and lock expiries. nil is the real clock.
	Clock clock.WithTicker
	// Seed is where everything random comes from: ids, MAC addresses,
	// the order of lists, which machine is chosen.
	Seed uint64
	// Speed is how fast machines move from step to step of their lives: 1
	// as in life (about two minutes from allocation to Phoned Home), 60
	// sixty times as fast, 0 not at all: then SendEvent and Advance move them.
	Speed float64
	// HMAC are the keys of the three technical users; empty ones get
	// DefaultHMAC's.
	HMAC HMACKeys
	// Costs makes answers take as long as a real metal-api's (README,
	// "What calls cost"), slept on Clock. See SetCosts.
	Costs bool
	// DataCentre is the inventory; nil is DefaultDataCentre(8).
	DataCentre *DataCentre
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
	clock clock.WithTicker
}

// New builds the data centre. It fails if the inventory contradicts itself
// (a machine of a size or in a partition that is not there, say).
func New(cfg Config) (*Simulator, error) { return &Simulator{clock: cfg.Clock}, nil }

// Handler is the REST surface at /v1/…, without a base path.
func (s *Simulator) Handler() http.Handler { return http.NotFoundHandler() }

// AdminHandler serves faults, events and the books to people, as JSON.
func (s *Simulator) AdminHandler() http.Handler { return http.NotFoundHandler() }

// Run drives the machines' lives (when Speed is above zero), the liveliness
// cron job, expired locks and late clean-ups until ctx is done. Without Run,
// call Advance.
func (s *Simulator) Run(ctx context.Context) { <-ctx.Done() }

// Advance does everything that is due now by the clock and returns how many
// things that were. For fake clocks and tests without Run.
func (s *Simulator) Advance() int { return 0 }

// SetCosts switches the answer times of the cost table on or off.
func (s *Simulator) SetCosts(on bool) {}

// Now is the simulator's time.
func (s *Simulator) Now() time.Time { return s.clock.Now() }
