// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

const identifyKind = "MachineIdentify"

// Identify switches the chassis LED. The same state with the same reason is one request for some
// seconds.
func (o *Operator) Identify(ctx context.Context, t Target, spec infrastructure.MachineIdentifySpec) (_ *infrastructure.MachineIdentify, err error) {
	defer o.observe(verbIdentify)(&err)
	if spec.State != infrastructure.LEDOn && spec.State != infrastructure.LEDOff {
		return nil, o.status(t, allocation.RefuseField(identifyKind, field.NotSupported(field.NewPath("spec", "state"), spec.State,
			[]infrastructure.LEDState{infrastructure.LEDOn, infrastructure.LEDOff})))
	}
	spec.Reason = oneline.Sanitize(spec.Reason, maxReason)
	return operate(ctx, o, t, "identify request", func(ctx context.Context, s *subject) (*infrastructure.MachineIdentify, error) {
		answer := &infrastructure.MachineIdentify{ObjectMeta: s.objectMeta(), Spec: spec}
		if last, at := o.leds.get(s.allocationUUID); last != nil && last.Action == string(spec.State) && last.Reason == spec.Reason && o.clock.Since(at) < repeatInterval {
			return answer, nil
		}
		if _, err := s.observe(ctx); err != nil {
			return nil, err
		}
		if allocation.IsDryRun(ctx) {
			return answer, nil
		}
		if err := s.checkObservedRecently(); err != nil {
			return nil, err
		}
		err := o.opts.Metal.SetLED(context.WithoutCancel(ctx), s.machineID, spec.State == infrastructure.LEDOn, spec.Reason)
		request := fmt.Sprintf("request to switch the chassis LED %s was sent", spec.State)
		what := "The " + request
		switch metal.KindOf(err) {
		case "":
			o.leds.set(s.allocationUUID, &infrastructure.MachineOperation{Action: string(spec.State), Reason: spec.Reason})
		case metal.Uncertain:
			what = "It is not known whether the " + request
			o.leds.set(s.allocationUUID, nil)
		default:
			return nil, allocation.RefuseCall(identifyKind, err, nil)
		}
		s.recordAfter(ctx, ReasonIdentifyRequested, "Identify"+string(spec.State), s.note(what+", requested", spec.Reason), err != nil)
		if err != nil {
			return nil, callError(identifyKind, err, fmt.Sprintf("it is not known whether the %s: retry", request))
		}
		return answer, nil
	})
}
