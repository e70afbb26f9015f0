// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// matchesSpecState is the condition MatchesSpec of a machine whose metal is shown, so
// that it costs no call. It has no status if there is nothing to say: metal that was
// allocated by this server has size and image of the spec, until another client
// reinstalls it. previous is the condition that was shown last.
func (m *machineLike) matchesSpecState(previous *metav1.Condition) conditionState {
	a, live := *m.status.Allocation, *m.status.Metal
	if a == nil || a.Phase != infrastructure.AllocationAllocated || live == nil || live.Size == "" || live.Image == "" {
		return conditionState{}
	}
	var state conditionState
	if previous == nil {
		// Nothing in metal dates a reinstallation.
		state.since = timeOrZero(a.StartTime)
	}
	var others []string
	if live.Size != m.machineType {
		state.reason = infrastructure.ReasonOtherSize
		others = append(others, fmt.Sprintf("size %q (spec.machineType: %q)", live.Size, m.machineType))
	}
	if !metal.MeansImage(m.image, live.Image) {
		if state.reason == "" {
			state.reason = infrastructure.ReasonOtherImage
		}
		others = append(others, fmt.Sprintf("image %q (spec.image: %q)", live.Image, m.image))
	}
	switch {
	case len(others) > 0:
		state.status = metav1.ConditionFalse
		state.message = fmt.Sprintf("Machine %s has %s.", a.MachineID, strings.Join(others, " and "))
	case a.Adopted:
		state.status, state.reason = metav1.ConditionTrue, infrastructure.ReasonMatchesSpec
		state.message = fmt.Sprintf("Machine %s has the size and the image of the spec.", a.MachineID)
	default:
		return conditionState{}
	}
	return state
}
