// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// imageUpToDateState is the condition ImageUpToDate of a machine whose metal is shown. It
// has a status only while the image of the spec is an alias that stands for a newer image
// than is installed, and a machine of the role could have that. previous is the condition
// that was shown last.
func (p *MachineLikeProjector) imageUpToDateState(m *machineLike, previous *metav1.Condition) conditionState {
	a, live := *m.status.Allocation, *m.status.Metal
	if p.Images == nil || a == nil || a.Phase != infrastructure.AllocationAllocated || live == nil || live.Image == "" {
		return conditionState{}
	}
	newest := p.Images.NewestImage(m.image)
	if newest == nil || !metal.NewerImage(newest.ID, live.Image) || !slices.Contains(newest.Features, p.imageFeature()) {
		return conditionState{}
	}
	state := conditionState{
		status: metav1.ConditionFalse, reason: infrastructure.ReasonNewerImageAvailable,
		message: infrastructure.NewerImageMessage(m.image, newest.ID, a.MachineID, live.Image),
	}
	if previous == nil {
		// Nothing in metal dates a new image.
		state.since = timeOrZero(a.StartTime)
	}
	return state
}

// imageFeature is the feature that the image of the role's machines needs.
func (p *MachineLikeProjector) imageFeature() string {
	if p.role == metal.RoleFirewall {
		return metal.FeatureFirewall
	}
	return metal.FeatureMachine
}
