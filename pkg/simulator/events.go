// SPDX-License-Identifier: Apache-2.0

package simulator

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator/internal/wire"
)

// Provisioning events, in the order in which a machine goes through them.
const (
	eventAlive            = "Alive"
	eventCrashed          = "Crashed"
	eventPXEBooting       = "PXE Booting"
	eventPlannedReboot    = "Planned Reboot"
	eventPreparing        = "Preparing"
	eventRegistering      = "Registering"
	eventWaiting          = "Waiting"
	eventInstalling       = "Installing"
	eventBootingNewKernel = "Booting New Kernel"
	eventPhonedHome       = "Phoned Home"
	eventMachineReclaim   = "Machine Reclaim"
)

const (
	livelinessAlive   = "Alive"
	livelinessDead    = "Dead"
	livelinessUnknown = "Unknown"

	// deadAfter is how long a machine may be silent (530-533).
	deadAfter = 5 * time.Minute
	// livelinessInterval is how often the cron job looks.
	livelinessInterval = time.Minute
	// beatInterval is how often a machine that is on gives a sign of life.
	beatInterval = time.Minute
	// reclaimFailedAfter is how long after a reclaim a Phoned Home means that
	// the reclaim has failed.
	reclaimFailedAfter = 5 * time.Minute
	// bufferedAfter is how long after another event a Phoned Home may be late.
	bufferedAfter = 5 * time.Minute
	// logLength is how many events the log keeps, shownEvents how many of
	// them an answer shows.
	logLength   = 100
	shownEvents = 20
)

// eventLog is a machine's event container. It is replaced, never changed.
type eventLog struct {
	log           []wire.Event // newest first
	last          *time.Time
	lastError     *wire.Event
	crashLoop     bool
	reclaimFailed bool
	liveliness    string
	// beats: the machine is on, and since the last event has sent a sign of
	// life every beatInterval. Nothing has to happen for that.
	beats bool
}

func (e *eventLog) newest() string {
	if e == nil || len(e.log) == 0 {
		return ""
	}
	return e.log[0].Event
}

// lastAt is the time of the last event, signs of life included.
func (e *eventLog) lastAt(now time.Time) *time.Time {
	if e.last == nil || !e.beats {
		return e.last
	}
	t := e.last.Add(now.Sub(*e.last).Truncate(beatInterval))
	if t.Before(*e.last) {
		return e.last
	}
	return &t
}

// transitions of the provisioning state machine: for each event the last
// events after which it is expected. The empty one is an empty log.
var transitions = map[string][]string{
	eventPXEBooting:       {eventPXEBooting, eventPlannedReboot, eventMachineReclaim, eventCrashed, ""},
	eventPreparing:        {eventPXEBooting, eventPlannedReboot, eventMachineReclaim, eventCrashed, ""},
	eventRegistering:      {eventPreparing, ""},
	eventWaiting:          {eventRegistering, ""},
	eventInstalling:       {eventRegistering, eventWaiting, ""},
	eventBootingNewKernel: {eventInstalling, ""},
	eventPhonedHome: {
		eventBootingNewKernel, eventMachineReclaim, eventPlannedReboot, eventPhonedHome,
		eventPXEBooting, eventPreparing, eventRegistering, eventWaiting, "",
	},
	eventPlannedReboot:  nil, // always
	eventMachineReclaim: nil, // always
	eventAlive: {
		eventPXEBooting, eventPreparing, eventRegistering, eventWaiting, eventInstalling, eventBootingNewKernel, "",
	},
	eventCrashed: {
		eventPXEBooting, eventPreparing, eventRegistering, eventWaiting, eventInstalling, eventBootingNewKernel, "",
	},
}

// stateName is what the state after an event is called in messages (216).
func stateName(event string) string {
	switch event {
	case "":
		return "state initial"
	case eventCrashed:
		return "state crashing"
	}
	return "state " + strings.ToLower(event)
}

func expected(event, after string) bool {
	from, ok := transitions[event]
	if !ok {
		return false
	}
	if from == nil {
		return true
	}
	for _, f := range from {
		if f == after {
			return true
		}
	}
	return false
}

// next is the log after another event, at time t.
func (e *eventLog) next(event, message string, t time.Time) *eventLog {
	n := *e
	after := e.newest()
	ev := wire.Event{Time: stored(t), Event: event, Message: message}
	if !expected(event, after) {
		return n.unexpected(ev, after)
	}
	seen := func() {
		n.last, n.liveliness = &ev.Time, livelinessAlive
	}
	add := func() {
		seen()
		n.log = prepend(ev, n.log)
	}
	switch event {
	case eventAlive:
		seen()
	case eventPhonedHome:
		switch after {
		case eventPhonedHome:
			seen()
		case eventMachineReclaim:
			if e.last != nil && ev.Time.Sub(*e.last) > reclaimFailedAfter {
				seen()
				n.reclaimFailed = true
			}
		case eventPlannedReboot:
			n.crashLoop = false
			add()
		case eventPXEBooting, eventPreparing, eventRegistering, eventWaiting:
			// one that was under way while the machine rebooted: it lets the
			// state stand, and after a while counts as the event of that state
			if e.last != nil && ev.Time.Sub(*e.last) < bufferedAfter {
				return &n
			}
			if after == eventPXEBooting || after == eventPreparing {
				n.reclaimFailed = false
			}
			if after == eventPXEBooting {
				seen()
			} else {
				add()
			}
		default:
			n.crashLoop = false
			add()
		}
	case eventPXEBooting:
		n.reclaimFailed = false
		if after == eventPXEBooting {
			seen()
		} else {
			add()
		}
	case eventPreparing:
		n.reclaimFailed = false
		add()
	case eventPlannedReboot, eventMachineReclaim:
		n.crashLoop = false
		add()
	case eventCrashed:
		n.crashLoop = true
		n.lastError = &ev
		add()
	default:
		add()
	}
	n.settle(event)
	return &n
}

// unexpected keeps an event that does not fit, with a note in its message (216, 217, 531).
func (e *eventLog) unexpected(ev wire.Event, after string) *eventLog {
	note := fmt.Sprintf("[unexpectedly received in %s]", stateName(after))
	if ev.Message == "" {
		ev.Message = note
	} else {
		ev.Message = note + ": " + ev.Message
	}
	e.last, e.liveliness, e.lastError = &ev.Time, livelinessAlive, &ev
	switch ev.Event {
	case eventAlive:
	case eventPXEBooting, eventPreparing:
		e.crashLoop = true
		e.log = prepend(ev, e.log)
	default:
		e.log = prepend(ev, e.log)
	}
	e.settle(ev.Event)
	return e
}

// settle decides whether the machine is on after an event.
func (e *eventLog) settle(event string) {
	switch event {
	case eventCrashed, eventPlannedReboot, eventMachineReclaim:
		e.beats = false
	case eventAlive:
	default:
		e.beats = true
	}
	if len(e.log) > logLength {
		e.log = e.log[:logLength]
	}
}

func prepend(ev wire.Event, log []wire.Event) []wire.Event {
	return append([]wire.Event{ev}, log...)
}

func (e *eventLog) wire(now time.Time) wire.Events {
	if e == nil {
		return wire.Events{Log: []wire.Event{}}
	}
	return wire.Events{
		Log: e.log[:min(len(e.log), shownEvents)], LastEventTime: e.lastAt(now), LastErrorEvent: e.lastError,
		CrashLoop: e.crashLoop, FailedMachineReclaim: e.reclaimFailed,
	}
}

// setLog stores an event container and keeps the set of quiet machines, the
// only ones that the liveliness cron job has to look at.
func (s *Simulator) setLog(n *node, e *eventLog) {
	if n.isQuiet() && e != nil {
		e.beats = false
	}
	n.ec = e
	if e != nil && !e.beats {
		s.quiet[n] = struct{}{}
	} else {
		delete(s.quiet, n)
	}
}

// event lets a machine's event arrive. A machine that nobody knows gets an
// event container and becomes an empty machine (docs/metal-api.md, Q32).
func (s *Simulator) event(id, event, message string, t time.Time) error {
	if _, known := transitions[event]; !known {
		return errors.New("unknown provisioning event: " + event)
	}
	n := s.nodeFor(id, t)
	e := n.ec
	if e == nil {
		e = &eventLog{liveliness: livelinessAlive}
	}
	s.setLog(n, e.next(event, message, t))
	return nil
}

// livelinessCron is the metal-api's cron job: a machine silent for more than
// five minutes is Unknown when allocated and Dead when not (532, 533).
func (s *Simulator) livelinessCron(now time.Time) {
	s.evaluateLiveliness(now)
	s.at(now.Add(livelinessInterval), s.livelinessCron)
}

func (s *Simulator) evaluateLiveliness(now time.Time) {
	for n := range s.quiet {
		e := n.ec
		if e == nil || e.last == nil || n.m == nil {
			continue
		}
		want := livelinessAlive
		if now.Sub(*e.last) > deadAfter {
			want = livelinessDead
			if n.m.alloc != nil {
				want = livelinessUnknown
			}
		}
		if e.liveliness != want {
			next := *e
			next.liveliness = want
			n.ec = &next
		}
	}
}

// RunLiveliness runs the liveliness cron job now; it runs by itself every minute.
func (s *Simulator) RunLiveliness() {
	s.lock()
	defer s.unlock()
	s.evaluateLiveliness(s.clock.Now())
}
