// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

// Target is the machine or firewall that an operation is for. Whether the user may operate a
// discovered one is not checked here.
type Target = infrastructure.OperationTarget

func refOf(t Target) allocation.MachineRef {
	ref := allocation.MachineRef{Kind: t.Kind, Namespace: t.Namespace, Name: t.Name, UID: t.UID}
	if t.Discovered != nil {
		ref.UID = ""
	}
	return ref
}

// keyOf is what limits of objects are kept by.
func keyOf(t Target) string { return t.Kind + "/" + t.Namespace + "/" + t.Name }

// Facts are what is known of machines.
type Facts interface {
	Machine(id string) (*metal.Machine, metal.Presence)
}

// Catalogue looks up what is cached, within the limits of a namespace;
// pkg/metal/catalogue implements it.
type Catalogue interface {
	WithAllowance(ctx context.Context, namespace string) context.Context
	LookupImage(ctx context.Context, id, feature string) (image *metal.Image, all []string, err error)
	AcquireMachineLookup(ctx context.Context, id string) error
	LookupPowerState(ctx context.Context, id string) (*metal.PowerState, error)
}

// Options configure an Operator.
type Options struct {
	Protocol  *allocation.Protocol
	Metal     metal.Operator
	Facts     Facts
	Catalogue Catalogue
	Bindings  tenancy.Bindings
	Events    Recorder
	// Clock is the source of time; default the real one.
	Clock clock.PassiveClock
	// CrashPoint, if it is set, is called after each step that a crash could follow on; for
	// tests.
	CrashPoint func(name string)
}

// Operator operates metal. It is safe for concurrent use, and for use beside another server's
// over the same records.
//
// Its errors are API statuses, as those of allocation.Protocol: 409 while another operation,
// allocation or release of the object is in progress, and while the object holds no metal, or
// none that is certainly its own; 422 when a field is wrong, or the metal-api refuses, in its words;
// 429 beyond the limits; 503 when the metal-api cannot be reached, or an Event that has to be written
// first cannot be: then nothing was sent; 504 when it is not known whether it was sent, or the
// caller's context ends first.
type Operator struct {
	opts   Options
	clock  clock.PassiveClock
	limits *limits
	// recent are the last operations of discovered machines, which have no record, leds those of
	// LEDs, and ended those of others that this process ended. Their keys are allocation UUIDs.
	recent, leds, ended *recentOperations
}

// New returns an Operator that does nothing until it is asked.
func New(opts Options) *Operator {
	o := &Operator{opts: opts, clock: opts.Clock}
	if o.clock == nil {
		o.clock = clock.RealClock{}
	}
	o.limits = newLimits(o.clock)
	o.recent, o.leds, o.ended = newRecentOperations(o.clock), newRecentOperations(o.clock), newRecentOperations(o.clock)
	return o
}

// WithDryRun makes operations with the context dry runs: they make the checks that come before
// the first call that changes something, and record nothing, not even an Event.
func (*Operator) WithDryRun(ctx context.Context) context.Context { return allocation.WithDryRun(ctx) }

func (o *Operator) crashPoint(name string) {
	if o.opts.CrashPoint != nil {
		o.opts.CrashPoint(name)
	}
}

// status returns an error as an API status of the target.
func (o *Operator) status(t Target, err error) error {
	return o.opts.Protocol.StatusError(refOf(t), err)
}

// subject is what an operation is for, while no other is in progress.
type subject struct {
	target   Target
	operator *Operator
	// held is nil for a discovered machine, discovered for others.
	held       *allocation.Held
	discovered *allocation.Discovered

	machineID, allocationUUID string
	// observeTime is when the machine was last read, at the latest.
	observeTime time.Time
	// before is the operation of a discovered machine before the one that was begun.
	before     *infrastructure.MachineOperation
	beforeTime time.Time
}

// unlockVerb names the operation that is done while the machine is being released, too: a
// release fails while the machine is locked.
const unlockVerb = "unlock request"

// operate does work as the only operation on the target.
func operate[T any](ctx context.Context, o *Operator, t Target, verb string, work func(ctx context.Context, s *subject) (T, error)) (T, error) {
	s := &subject{target: t, operator: o}
	if d := t.Discovered; d != nil {
		s.machineID, s.allocationUUID = d.MachineID, d.AllocationUUID
		return allocation.OperateDiscovered(ctx, o.opts.Protocol, refOf(t), verb, d.MachineID, d.AllocationUUID, func(ctx context.Context, d *allocation.Discovered) (T, error) {
			s.discovered = d
			return work(ctx, s)
		})
	}
	ref := refOf(t)
	ref.Releasing = verb == unlockVerb
	return allocation.Operate(ctx, o.opts.Protocol, ref, verb, func(ctx context.Context, h *allocation.Held) (T, error) {
		s.held, s.machineID, s.allocationUUID = h, h.Allocation.MachineID, h.Allocation.AllocationUUID
		return work(ctx, s)
	})
}

// observe returns the machine as it is now, if it is the target's. It counts against the limits
// of operations.
func (s *subject) observe(ctx context.Context) (*metal.Machine, error) {
	if err := s.operator.limits.acquire(s.target); err != nil {
		return nil, err
	}
	m, err := s.read(ctx)
	s.operator.crashPoint("observed")
	return m, err
}

func (s *subject) read(ctx context.Context) (*metal.Machine, error) {
	s.observeTime = s.operator.clock.Now()
	if s.held == nil {
		return s.discovered.Observe(ctx)
	}
	return s.held.Observe(ctx)
}

// checkObservedRecently refuses a call that comes too long after the machine was read: it may be
// another object's by then.
func (s *subject) checkObservedRecently() error {
	if s.operator.clock.Since(s.observeTime) > beginTimeout {
		return allocation.Refuse(http.StatusServiceUnavailable, 0, "nothing was sent: more than %s passed since the machine was read: retry", beginTimeout)
	}
	return nil
}

// objectMeta is the metadata of answers.
func (s *subject) objectMeta() metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: s.target.Namespace, Name: s.target.Name, UID: s.target.UID}
	if s.held != nil {
		m.UID = s.held.Meta.UID
	}
	return m
}

// beginTimeout is the longest time between the read of a machine and a call, and so between the
// record of an operation and its call: a process that was suspended for longer makes none.
const beginTimeout = 10 * time.Second

// inFlight is for how long after it was recorded the call of an operation of another process may
// be in flight.
const inFlight = beginTimeout + metal.OperateTimeout

// repeatInterval is for how long after the call of an action ended the same action of the object
// without a request id is the same request.
const repeatInterval = 10 * time.Second
