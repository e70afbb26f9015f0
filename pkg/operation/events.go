// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// Recorder records what was asked for, by which user and why. It is synchronous.
type Recorder interface {
	Record(ctx context.Context, e Event) error
}

// Event is about an object that was operated.
type Event struct {
	Kind, Namespace, Name string
	UID                   types.UID
	ResourceVersion       string
	Warning               bool
	// Reason and Action are as in events.k8s.io; Note is one line of at most oneline.MaxNote.
	Reason, Action, Note string
}

// The reasons of Events.
const (
	ReasonPowerRequested      = "PowerRequested"
	ReasonIdentifyRequested   = "IdentifyRequested"
	ReasonConsolePasswordRead = "ConsolePasswordRead"
	ReasonReinstallRequested  = "ReinstallRequested"
	ReasonLocked              = "Locked"
	ReasonUnlocked            = "Unlocked"
)

// eventTimeout is how long it may take to write an Event.
const eventTimeout = 5 * time.Second

// maxNoteUser is how much of the user's name is in a note.
const maxNoteUser = 256

// note is what was requested or done, by which user, and why. What is cut if it is too long, so
// that the user and the reason are whole.
func (s *subject) note(what, reason string) string {
	by := fmt.Sprintf(" by %q", oneline.Sanitize(s.target.User, maxNoteUser))
	if reason != "" {
		by += ": " + reason
	}
	return oneline.Sanitize(oneline.Sanitize(what, oneline.MaxNote-len(by))+by, oneline.MaxNote)
}

// outcomeNote says what became of the call of a request.
func outcomeNote(r request, outcome infrastructure.MachineOperationOutcome, message string) string {
	what := r.what()
	message = oneline.Sanitize(message, oneline.MaxNote/2)
	switch outcome {
	case infrastructure.OperationSent:
		return fmt.Sprintf("The %s was sent to the machine's controller, requested", what)
	case infrastructure.OperationRefused:
		return fmt.Sprintf("The metal-api refused the %s (%s), requested", what, message)
	case infrastructure.OperationUncertain:
		advice := ""
		if r.installs() {
			advice = ": " + bootDiskAdvice
		}
		return fmt.Sprintf("It is not known whether the %s was sent%s (%s), requested", what, advice, message)
	}
	return fmt.Sprintf("The %s was not sent (%s), requested", what, message)
}

func (s *subject) event(reason, action, note string, warning bool) Event {
	e := Event{
		Kind: s.target.Kind, Namespace: s.target.Namespace, Name: s.target.Name, UID: s.target.UID,
		Reason: reason, Action: action, Note: note, Warning: warning,
	}
	if s.held != nil {
		e.UID, e.ResourceVersion = s.held.Meta.UID, s.held.Meta.ResourceVersion
	}
	return e
}

// recordFirst writes the Event of an operation that is not done without one.
func (s *subject) recordFirst(ctx context.Context, reason, action, note string) error {
	return errNotRecorded(s.record(ctx, s.event(reason, action, note, false)))
}

// recordFirstOrLog is recordFirst, but logs the Event if the namespace is being deleted: no Event
// can be written in it then, and an operation that the deletion waits for could never be done.
func (s *subject) recordFirstOrLog(ctx context.Context, reason, action, note string) error {
	e := s.event(reason, action, note, false)
	err := s.record(ctx, e)
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		klog.FromContext(ctx).Info("Machine was operated without an Event, since its namespace is being deleted", "reason", e.Reason, "action", e.Action,
			"kind", e.Kind, "namespace", e.Namespace, "name", e.Name, "uid", e.UID, "note", e.Note)
		return nil
	}
	return errNotRecorded(err)
}

func (s *subject) record(ctx context.Context, e Event) error {
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	return s.operator.opts.Events.Record(ctx, e)
}

// errNotRecorded is the error of an operation whose Event has to be written first, and was not.
func errNotRecorded(err error) error {
	if err == nil {
		return nil
	}
	return allocation.Refuse(http.StatusServiceUnavailable, 0,
		"nothing was done: the Event that says who asked for it, and why, cannot be written: %s", oneline.Sanitize(err.Error(), oneline.MaxNote))
}

// recordFailure writes the Event with the outcome of an operation whose first Event was written
// before the call, unless that was sent. ended is nil if it was not sent.
func (s *subject) recordFailure(ctx context.Context, reason, action string, r request, ended *infrastructure.MachineOperation, err error) {
	switch {
	case err == nil:
	case ended == nil:
		s.recordAfter(ctx, reason, action, s.note(outcomeNote(r, "", err.Error()), r.reason), true)
	default:
		s.recordAfter(ctx, reason, action, s.note(outcomeNote(r, ended.Outcome, ended.Message), r.reason), true)
	}
}

// recordAfter writes the Event of an operation that was done whether or not it can be written.
func (s *subject) recordAfter(ctx context.Context, reason, action, note string, warning bool) {
	if err := s.record(context.WithoutCancel(ctx), s.event(reason, action, note, warning)); err != nil {
		klog.FromContext(ctx).Info("Failed to write an Event", "reason", reason, "note", note, "err", err)
	}
}
