package simulator

import (
	"net/http"
	"time"
)

// FaultKind is what goes wrong.
type FaultKind string

const (
	// FaultLatency delays the answer by Latency.
	FaultLatency FaultKind = "latency"
	// FaultRefused closes the connection without an answer; nothing is done.
	FaultRefused FaultKind = "refused"
	// FaultStatus answers Status with Message; nothing is done.
	FaultStatus FaultKind = "status"
	// FaultBackendDown behaves as with Backend down: masterdata, ipam, rethinkdb or nsq (372-408).
	FaultBackendDown FaultKind = "backend-down"
	// FaultCommitThenLose does the call, then cuts the connection without a reply.
	FaultCommitThenLose FaultKind = "commit-then-lose"
	// FaultCommitThenLate does the call only Latency later; if the caller is
	// gone by then, it is done all the same.
	FaultCommitThenLate FaultKind = "commit-then-late"
	// FaultClientGone behaves as if the caller went away in the phase Phase of
	// an allocation (README, "Not transactional" 1 and 2).
	FaultClientGone FaultKind = "client-gone"
	// FaultTruncatedList answers a valid list with Fraction of its entries.
	FaultTruncatedList FaultKind = "truncated-list"
	// FaultTruncatedBody cuts the answer's body in the middle.
	FaultTruncatedBody FaultKind = "truncated-body"
	// FaultHang never answers until the caller gives up or the fault is removed.
	FaultHang FaultKind = "hang"
)

// Fault is one thing that goes wrong at an endpoint.
type Fault struct {
	// Endpoint is the name of an endpoint as in CallStat ("machine-allocate",
	// "machine-get", "machine-find", "machine-list", …), a prefix of names
	// with a star ("machine-*"), or "*".
	Endpoint string        `json:"endpoint"`
	Kind     FaultKind     `json:"kind"`
	Latency  time.Duration `json:"latency,omitempty"`
	Status   int           `json:"status,omitempty"`
	Message  string        `json:"message,omitempty"`
	Backend  string        `json:"backend,omitempty"`
	// Phase for FaultClientGone: a phase's name, see Phases.
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

// Inject makes a fault happen from now on. remove ends it; it may be called twice.
func (s *Simulator) Inject(f Fault) (remove func()) { return func() {} }
