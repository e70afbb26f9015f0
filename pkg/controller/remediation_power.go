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
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
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
	// powerTimeout bounds the time between the last look at a remediation and the request that
	// switches its machine.
	powerTimeout = 10 * time.Second
)

// powerAnswer is what came of a power request.
type powerAnswer int

const (
	// powerRequested: it was made before, or may have been.
	powerRequested powerAnswer = iota
	// powerAsked: it was made.
	powerAsked
	// powerUnavailable: it was not made because the server or the metal-api does not answer, or
	// that is not known. It is sent again.
	powerUnavailable
	// powerBusy: it was not made, because another operation runs, or there are too many.
	powerBusy
	// powerRefused: it was refused.
	powerRefused
)

// nextRequest returns the id with which an action is to be requested of the machine for this
// attempt; "", and what became of it, if it is not to be requested now: that is in the state of
// the machine, which was read from the server. What was refused, or never got out of a server that
// crashed, is requested again with another id; so is an On of which it is not known whether it was
// sent, because it harms nothing.
func (r *remediationRun) nextRequest(action v1alpha4.PowerAction, what string) (string, powerAnswer, error) {
	base := r.requestID(what)
	last := r.metal.Status.LastOperation
	switch {
	case last == nil || last.RequestTime == nil:
	case isRequest(last, base):
		// It was made, or may have been, whatever was answered.
		r.unsent.set(r.request.NamespacedName, base, false)
		age := r.clock.Since(last.RequestTime.Time)
		switch last.Outcome {
		case v1alpha4.OperationRefused:
			if age < remediationRetryInterval {
				return "", powerRefused, errors.New(last.Message)
			}
		case v1alpha4.OperationRequested:
			if age < powerInFlight {
				return "", powerRequested, nil
			}
		case v1alpha4.OperationUncertain:
			if age < powerInFlight || action != v1alpha4.PowerOn {
				return "", powerRequested, nil
			}
		default:
			return "", powerRequested, nil
		}
		return fmt.Sprintf("%s/%d", base, last.RequestTime.Unix()), powerRequested, nil
	case action != v1alpha4.PowerOn && r.isOthers(last) && !r.unsent.has(r.request.NamespacedName, base):
		// It may have been requested after this request, also if it was refused.
		return "", powerRequested, nil
	}
	return base, powerRequested, nil
}

// send makes a request with an id, if the object is still as it was read: a process that was
// suspended may not do what another one has done meanwhile. It returns what came of it and why, or
// an error if the object has changed.
func (r *remediationRun) send(ctx context.Context, action v1alpha4.PowerAction, what, id string) (answer powerAnswer, why, err error) {
	ctx, cancel := context.WithTimeout(ctx, powerTimeout)
	defer cancel()
	if err := r.checkUnchanged(ctx); err != nil {
		return answer, nil, err
	}
	why = r.power.request(ctx, r.metal, v1alpha4.MachinePowerSpec{
		Action: action, RequestID: id,
		Reason: oneline.Sanitize(fmt.Sprintf("remediation of Machine %s, %s", r.obj.Name, r.attemptOf()), maxPowerReason),
	})
	answer = powerAnswerOf(why)
	r.unsent.set(r.request.NamespacedName, r.requestID(what), answer == powerBusy || isUnavailableOfServer(why))
	return answer, why, nil
}

// assessAgain assesses the attempt directly before the machine is asked to switch off: what was
// found when it began may be long ago. What it waited for is no part of the timeout.
func (r *remediationRun) assessAgain(ctx context.Context, id string) (objection, error) {
	if r.clock.Since(r.assessed) >= powerTimeout {
		against, err := r.assess(ctx)
		if err != nil || r.gone || against.wait.reason != "" {
			return against, err
		}
		r.assessed = r.clock.Now()
	}
	if id == r.requestID(idOff) && r.waitedFor() != infrastructure.ReasonPowerRefused && r.clock.Since(r.phaseBegan()) >= powerTimeout {
		return objection{}, r.restartPhase(ctx)
	}
	return objection{}, nil
}

// checkUnchanged returns a conflict if the object is not as it was read, or written, before.
func (r *remediationRun) checkUnchanged(ctx context.Context) error {
	now := &v1alpha4.MetalStackRemediation{}
	if err := r.live.Get(ctx, r.request.NamespacedName, now); err != nil {
		return err
	}
	if now.UID != r.obj.UID || now.ResourceVersion != r.obj.ResourceVersion {
		return apierrors.NewConflict(v1alpha4.Resource("metalstackremediations"), now.Name, errors.New("it was changed meanwhile"))
	}
	return nil
}

// askOn requests that the machine is switched on. powerAsked is certain: the request was sent, the
// machine was seen on after it, or another user has it switched off since this phase began. It
// returns an error if the object has changed.
func (r *remediationRun) askOn(ctx context.Context) (answer powerAnswer, why, err error) {
	last := r.metal.Status.LastOperation
	switch {
	case last == nil || last.RequestTime == nil:
	case isRequest(last, r.requestID(idOn)):
		if last.Outcome == v1alpha4.OperationSent {
			return powerAsked, nil, nil
		}
		state, err := r.power.state(ctx, r.metal)
		if err == nil && last.Outcome != v1alpha4.OperationRefused && isSeen(state, v1alpha4.PowerStateOn, last) {
			return powerAsked, nil, nil
		}
	case r.isOthers(last) && last.Action == string(v1alpha4.PowerOff) && last.Outcome != v1alpha4.OperationRequested && last.Outcome != v1alpha4.OperationRefused:
		return powerAsked, nil, nil
	}
	id, answer, why := r.nextRequest(v1alpha4.PowerOn, idOn)
	if id == "" {
		return answer, why, nil
	}
	return r.send(ctx, v1alpha4.PowerOn, idOn, id)
}

// isRequest returns whether an operation was requested with an id, or with one that followed on it.
func isRequest(op *v1alpha4.MachineOperation, id string) bool {
	return op.RequestID == id || strings.HasPrefix(op.RequestID, id+"/")
}

// isOthers returns whether an operation is another user's, and is later than the beginning of the
// phase, which is recorded in whole seconds.
func (r *remediationRun) isOthers(op *v1alpha4.MachineOperation) bool {
	return !r.isOwn(op) && op.RequestTime.After(r.phaseBegan().Add(time.Second))
}

// isOwn returns whether an operation is this remediation's.
func (r *remediationRun) isOwn(op *v1alpha4.MachineOperation) bool {
	return strings.HasPrefix(op.RequestID, string(r.obj.UID)+"/")
}

// isSwitchedOff returns whether the last that was asked of the machine was to switch off. It may
// have been another user who asked. That another user was refused something changes nothing of a
// machine that was seen off.
func (r *remediationRun) isSwitchedOff() bool {
	last := r.metal.Status.LastOperation
	switch {
	case last == nil || last.RequestTime == nil:
		return false
	case last.Outcome == v1alpha4.OperationRefused:
		return r.obj.Status.Phase == v1alpha4.RemediationFencing && !r.isOwn(last)
	}
	return last.Action == string(v1alpha4.PowerOff)
}

// isSeenOff returns whether the machine's controller has reported it off since this attempt, or
// another user in this phase, asked for that.
func (r *remediationRun) isSeenOff(state *v1alpha4.MachinePowerStatus) bool {
	last := r.metal.Status.LastOperation
	return r.isSwitchedOff() && (isRequest(last, r.requestID(idOff)) || r.isOthers(last)) && isSeen(state, v1alpha4.PowerStateOff, last)
}

// isSeen returns whether the machine's controller has reported a state since an operation.
func isSeen(state *v1alpha4.MachinePowerStatus, want v1alpha4.PowerState, since *v1alpha4.MachineOperation) bool {
	return state.State == want && state.ObservedTime != nil && state.ObservedTime.After(since.RequestTime.Time)
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

// isUnavailableOfServer returns whether an error is this API server's own answer that nothing was
// sent, because it, a webhook or the metal-api cannot do so now. A proxy before it answers with the
// same code, and without such details, also when the request was made.
func isUnavailableOfServer(err error) bool {
	if apierrors.HasStatusCause(err, infrastructure.CauseNotAdmitted) {
		return true
	}
	status, is := errors.AsType[*apierrors.StatusError](err)
	if !is || !apierrors.IsServiceUnavailable(err) {
		return false
	}
	details := status.Status().Details
	return details != nil && details.Group == v1alpha4.GroupName && details.Kind != "" && !apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// keySet is a set of keys, each of an object.
type keySet struct {
	mu   sync.Mutex
	keys map[types.NamespacedName]map[string]bool
}

func (k *keySet) has(of types.NamespacedName, key string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.keys[of][key]
}

// set puts a key into the set or takes it out of it, and returns whether that changed it.
func (k *keySet) set(of types.NamespacedName, key string, in bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	was := k.keys[of][key]
	switch {
	case !in:
		delete(k.keys[of], key)
		return was
	case k.keys == nil:
		k.keys = map[types.NamespacedName]map[string]bool{}
	}
	if k.keys[of] == nil {
		k.keys[of] = map[string]bool{}
	}
	k.keys[of][key] = true
	return !was
}

// forget takes the keys of an object out.
func (k *keySet) forget(of types.NamespacedName) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.keys, of)
}
