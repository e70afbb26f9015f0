// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// The bounds of what is recorded of a request.
const (
	maxReason  = 256
	maxUser    = 1024
	maxMessage = 2048
)

// request is a power action or a reinstallation.
type request struct {
	// kind is that of the body.
	kind string
	// action is a power action, or infrastructure.OperationReinstall.
	action, id, image, reason string
}

// what names the request in messages.
func (r request) what() string {
	if r.action == infrastructure.OperationReinstall {
		return fmt.Sprintf("reinstallation with image %q", r.image)
	}
	return fmt.Sprintf("power action %q", r.action)
}

// installs reports whether the request is the power action after which the next boot installs the
// machine.
func (r request) installs() bool { return r.action == string(infrastructure.PowerBootPXE) }

// bootDiskAdvice is what to do about a request that installs of which it is not known whether it
// was sent.
const bootDiskAdvice = "the next boot of the machine may wipe the disks and install the image: request " + string(infrastructure.PowerBootDisk) +
	" before it is switched on or reset, to have it boot from the disk"

// bodyField is the field of the body that stands for one of the request to the metal-api.
func (r request) bodyField(f metal.RequestField) (*field.Path, any) {
	if f == metal.FieldImage && r.action == infrastructure.OperationReinstall {
		return imagePath, r.image
	}
	return nil, nil
}

// last is what is known of the operation that was requested last.
func (s *subject) last() *infrastructure.MachineOperation {
	if s.held != nil {
		return s.held.LastOperation()
	}
	last, _ := s.operator.recent.get(s.allocationUUID)
	return last
}

// endOf is when the call of the operation that was requested last ended, or, if this process did
// not make it, when it had certainly ended.
func (s *subject) endOf(last *infrastructure.MachineOperation) time.Time {
	recent := s.operator.recent
	if s.held != nil {
		recent = s.operator.ended
	}
	known, at := recent.get(s.allocationUUID)
	if known != nil && known.Outcome != infrastructure.OperationRequested && known.Action == last.Action && known.RequestTime.Equal(last.RequestTime) {
		return at
	}
	return timeOf(last).Add(inFlight)
}

// begin records that a call is about to be made.
func (s *subject) begin(ctx context.Context, begun *infrastructure.MachineOperation) error {
	if s.held != nil {
		return s.held.BeginOperation(ctx, begun)
	}
	s.before, s.beforeTime = s.operator.recent.get(s.allocationUUID)
	s.operator.recent.set(s.allocationUUID, begun)
	return nil
}

// end records how that ended; nil: nothing was sent, and the operation before is the last again.
func (s *subject) end(ctx context.Context, begun, ended *infrastructure.MachineOperation) {
	switch {
	case s.held == nil && ended == nil:
		s.operator.recent.setAt(s.allocationUUID, s.before, s.beforeTime)
		return
	case s.held == nil:
		s.operator.recent.set(s.allocationUUID, ended)
		return
	case ended != nil:
		s.operator.ended.set(s.allocationUUID, ended)
	}
	if err := s.held.EndOperation(ctx, begun, ended); err != nil {
		// It stays Requested, so that no answer pretends to know.
		klog.FromContext(ctx).Info("Failed to record the outcome of an operation", "action", begun.Action, "err", err)
	}
}

// repeated returns what the request that is recorded last was answered, if this one is the same.
// A request is refused while that of another process may be in flight.
func (s *subject) repeated(r request) (repeated bool, err error) {
	last := s.last()
	if last == nil {
		return false, nil
	}
	now := s.operator.clock.Now()
	age := max(0, now.Sub(timeOf(last)))
	switch same := last.Action == r.action && last.Image == r.image; {
	case r.id != "" && r.id == last.RequestID && !same:
		return false, allocation.RefuseField(r.kind, field.Invalid(field.NewPath("spec", "requestID"), r.id,
			fmt.Sprintf("is that of an earlier request for the action %s: must be another for each request", last.Action)))
	case r.id != "" && r.id == last.RequestID, r.id == "" && same && now.Sub(s.endOf(last)) < repeatInterval:
		return true, outcomeError(r, last)
	case last.Outcome == infrastructure.OperationRequested && age < inFlight:
		return false, allocation.Refuse(http.StatusConflict, inFlight-age,
			"an earlier request for the action %s may still be in flight: retry", last.Action)
	}
	return false, nil
}

func timeOf(op *infrastructure.MachineOperation) (t time.Time) {
	if op.RequestTime != nil {
		t = op.RequestTime.Time
	}
	return t
}

// outcomeError is the error that answers a request whose call had this outcome; nil if it was
// sent.
func outcomeError(r request, op *infrastructure.MachineOperation) error {
	switch op.Outcome {
	case infrastructure.OperationSent:
		return nil
	case infrastructure.OperationRefused:
		return allocation.RefuseField(r.kind, field.Forbidden(field.NewPath("spec"), "refused by the metal-api: "+op.Message))
	case infrastructure.OperationUncertain:
		return uncertain(r, op.Message)
	}
	return uncertain(r, "the server that it was requested of did not record its outcome")
}

// uncertain is the error of a request of which it is not known whether it was sent, and says how
// to find out.
func uncertain(r request, message string) error {
	if r.action == infrastructure.OperationReinstall {
		return allocation.Refuse(http.StatusGatewayTimeout, 0,
			"the %s may have been requested, and the machine be marked for it without a reboot: then its next boot from the network installs the image. "+
				"The condition %s says whether it is marked, as soon as that is observed; request it again after some seconds to have the machine reboot: %s",
			r.what(), infrastructure.ConditionReinstalling, message)
	}
	if r.installs() {
		return allocation.Refuse(http.StatusGatewayTimeout, 0,
			"the %s may have been sent to the machine's controller: %s, or request it again, with another requestID: %s", r.what(), bootDiskAdvice, message)
	}
	return allocation.Refuse(http.StatusGatewayTimeout, 0,
		"the %s may have been sent to the machine's controller: look at the power state (subresource power) and the log before it is requested again, with another requestID: %s",
		r.what(), message)
}

// callOnce makes the call of a request that was not made before: it records the request, calls
// and records the outcome. The error says whether something was sent.
func (s *subject) callOnce(ctx context.Context, r request, call func(ctx context.Context) error) (*infrastructure.MachineOperation, error) {
	o := s.operator
	requestTime := metav1.NewMicroTime(o.clock.Now().UTC().Truncate(time.Microsecond))
	begun := &infrastructure.MachineOperation{
		Action: r.action, RequestID: r.id, AllocationUUID: s.allocationUUID, RequestTime: &requestTime,
		User: oneline.Sanitize(s.target.User, maxUser), Reason: r.reason, Image: r.image, Outcome: infrastructure.OperationRequested,
	}
	if err := s.begin(ctx, begun); err != nil {
		return nil, err
	}
	o.crashPoint("recorded")
	if err := s.checkObservedRecently(); err != nil {
		s.end(ctx, begun, nil)
		return nil, err
	}
	err := call(context.WithoutCancel(ctx))
	o.crashPoint("called")
	ended := begun.DeepCopy()
	switch metal.KindOf(err) {
	case "":
		ended.Outcome = infrastructure.OperationSent
	case metal.Refused, metal.NotFound:
		ended.Outcome, ended.Message = infrastructure.OperationRefused, messageOf(err)
	case metal.Unavailable, metal.Busy:
		// Nothing was sent, and the metal-api did not decide: the same request may be made again.
		s.end(ctx, begun, nil)
		return nil, allocation.RefuseCall(r.kind, err, nil)
	default:
		ended.Outcome, ended.Message = infrastructure.OperationUncertain, messageOf(err)
	}
	s.end(ctx, begun, ended)
	o.crashPoint("ended")
	if ended.Outcome == infrastructure.OperationRefused {
		return ended, allocation.RefuseCall(r.kind, err, r.bodyField)
	}
	return ended, outcomeError(r, ended)
}

// messageOf is the metal-api's words, bounded.
func messageOf(err error) string {
	return oneline.Sanitize(allocation.CallMessage(err), maxMessage)
}
