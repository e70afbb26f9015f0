// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// powerSubresource is the subresource of machines that switches them.
const powerSubresource = "power"

// powerClient calls the subresource power of a machine. A request with the id of the last one is
// made once, however often it is sent; each is refused if the machine is not the object of this
// name any more.
type powerClient interface {
	state(ctx context.Context, machine *v1alpha4.MetalStackMachine) (*v1alpha4.MachinePowerStatus, error)
	request(ctx context.Context, machine *v1alpha4.MetalStackMachine, spec v1alpha4.MachinePowerSpec) error
}

// restPowerClient is GET and POST of …/NAME/power.
type restPowerClient struct{ client.Client }

var _ powerClient = restPowerClient{}

func (c restPowerClient) state(ctx context.Context, machine *v1alpha4.MetalStackMachine) (*v1alpha4.MachinePowerStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, subresourceTimeout)
	defer cancel()
	power := &v1alpha4.MachinePower{}
	if err := c.SubResource(powerSubresource).Get(ctx, machine, power); err != nil {
		return nil, err
	}
	return &power.Status, nil
}

func (c restPowerClient) request(ctx context.Context, machine *v1alpha4.MetalStackMachine, spec v1alpha4.MachinePowerSpec) error {
	ctx, cancel := context.WithTimeout(ctx, subresourceTimeout)
	defer cancel()
	return c.SubResource(powerSubresource).Create(ctx, machine, &v1alpha4.MachinePower{
		ObjectMeta: metav1.ObjectMeta{Namespace: machine.Namespace, Name: machine.Name, UID: machine.UID}, Spec: spec,
	})
}

// requestID is the id of what an attempt asks of the machine.
func (r *remediationRun) requestID(what string) string {
	return fmt.Sprintf("%s/%d/%s", r.obj.UID, r.obj.Status.Attempt, what)
}

const (
	idOff = "off"
	idOn  = "on"
)

const (
	// maxPowerReason is the longest reason of a request.
	maxPowerReason = 256
	// powerInFlight is for how long a request of which no outcome is recorded may be in flight.
	powerInFlight = 2 * time.Minute
)

// powerAnswer is what came of a power request.
type powerAnswer int

const (
	// powerRequested: it was made before, or may have been.
	powerRequested powerAnswer = iota
	// powerAsked: it was made now.
	powerAsked
	// powerUnavailable: it was not made because the server or the metal-api does not answer, or
	// that is not known. It is sent again.
	powerUnavailable
	// powerBusy: it was not made, because another operation runs, or there are too many.
	powerBusy
	// powerRefused: it was refused.
	powerRefused
)

// ask requests an action of the machine for this attempt, unless it was requested before: that
// is in the state of the machine, which was read from the server. What was refused, or
// never got out of a server that crashed, is requested again with another id.
func (r *remediationRun) ask(ctx context.Context, action v1alpha4.PowerAction, what string) (powerAnswer, error) {
	base := r.requestID(what)
	id, now := base, r.clock.Now()
	last := r.metal.Status.LastOperation
	switch {
	case last == nil || last.RequestTime == nil:
	case isRequest(last, base):
		age := now.Sub(last.RequestTime.Time)
		switch {
		case last.Outcome == v1alpha4.OperationRefused && age < remediationRetryInterval:
			return powerRefused, errors.New(last.Message)
		case last.Outcome != v1alpha4.OperationRefused && (last.Outcome != v1alpha4.OperationRequested || age < powerInFlight):
			return powerRequested, nil
		}
		id = fmt.Sprintf("%s/%d", base, last.RequestTime.Unix())
	case r.isLater(last.RequestTime.Time) && !r.unsent.has(base):
		// Something else was requested in this phase, perhaps after this request.
		return powerRequested, nil
	}
	err := r.power.request(ctx, r.metal, v1alpha4.MachinePowerSpec{
		Action: action, RequestID: id,
		Reason: oneline.Sanitize(fmt.Sprintf("remediation of Machine %s, %s", r.obj.Name, r.attemptOf()), maxPowerReason),
	})
	answer := powerAnswerOf(err)
	r.unsent.set(base, answer == powerBusy || answer == powerUnavailable && apierrors.IsServiceUnavailable(err))
	return answer, err
}

// isRequest returns whether an operation was requested with an id, or with one that followed on it.
func isRequest(op *v1alpha4.MachineOperation, id string) bool {
	return op.RequestID == id || strings.HasPrefix(op.RequestID, id+"/")
}

// isLater returns whether a time is after the beginning of the phase, which is recorded in whole
// seconds.
func (r *remediationRun) isLater(t time.Time) bool { return t.After(r.phaseBegan().Add(time.Second)) }

// lastPower returns the last operation of the machine; nil if it is neither of this attempt nor
// later than the beginning of this phase.
func (r *remediationRun) lastPower() *v1alpha4.MachineOperation {
	last := r.metal.Status.LastOperation
	if last == nil || last.RequestTime == nil || (!isRequest(last, r.requestID(idOff)) && !r.isLater(last.RequestTime.Time)) {
		return nil
	}
	return last
}

// isSwitchedOff returns whether the last that was asked of the machine was to switch off. It may
// have been another user who asked.
func (r *remediationRun) isSwitchedOff() bool {
	last := r.metal.Status.LastOperation
	return last != nil && last.Action == string(v1alpha4.PowerOff) && last.Outcome != v1alpha4.OperationRefused
}

// isSeenOff returns whether the machine's controller has reported it off since then.
func (r *remediationRun) isSeenOff(state *v1alpha4.MachinePowerStatus) bool {
	last := r.lastPower()
	return last != nil && r.isSwitchedOff() && state.State == v1alpha4.PowerStateOff &&
		state.ObservedTime != nil && state.ObservedTime.After(last.RequestTime.Time)
}

func powerAnswerOf(err error) powerAnswer {
	switch {
	case err == nil:
		return powerAsked
	case apierrors.IsConflict(err), apierrors.IsTooManyRequests(err):
		return powerBusy
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsNotFound(err), apierrors.IsBadRequest(err), apierrors.IsMethodNotSupported(err):
		return powerRefused
	}
	return powerUnavailable
}

// powerRetryAfter is how soon a request is repeated.
func powerRetryAfter(err error) time.Duration {
	if seconds, suggested := apierrors.SuggestsClientDelay(err); suggested && seconds > 0 {
		return min(time.Duration(seconds)*time.Second, remediationRetryInterval)
	}
	return powerRetryInterval
}

// unsentRequests are the requests that were certainly not made. A restart forgets them.
type unsentRequests struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (u *unsentRequests) has(id string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.ids[id]
}

func (u *unsentRequests) set(id string, unsent bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !unsent {
		delete(u.ids, id)
		return
	}
	if u.ids == nil {
		u.ids = map[string]bool{}
	}
	u.ids[id] = true
}
