// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// images are those that a test says.
type images struct{ metal.NewestImages }

func (i images) NewestImage(alias string) *metal.Image { return i.Of(alias) }

func imagesOf(feature string, ids ...string) images {
	var all []*metal.Image
	for _, id := range ids {
		all = append(all, &metal.Image{ID: id, Features: []string{feature}})
	}
	return images{metal.NewNewestImages(all)}
}

func imageUpToDateOf(m *infrastructure.MetalStackMachine) *metav1.Condition {
	return meta.FindStatusCondition(m.Status.Conditions, infrastructure.ConditionImageUpToDate)
}

func TestImageUpToDate_IsFalseWhileTheAliasStandsForANewerImage(t *testing.T) {
	t.Parallel()
	const older, installed, newer = "ubuntu-24.04.20250701", "ubuntu-24.04.20260101", "ubuntu-24.04.20260401"
	for name, c := range map[string]struct {
		image  string
		images Images
		newer  bool
	}{
		"newer image":                       {"ubuntu-24.04", imagesOf(metal.FeatureMachine, older, installed, newer), true},
		"installed image":                   {"ubuntu-24.04", imagesOf(metal.FeatureMachine, older, installed), false},
		"installed image is not listed yet": {"ubuntu-24.04", imagesOf(metal.FeatureMachine, older), false},
		"full id":                           {installed, imagesOf(metal.FeatureMachine, installed, newer), false},
		"another version is installed":      {"ubuntu-22.04", imagesOf(metal.FeatureMachine, "ubuntu-22.04.20270101"), false},
		"newer image is not for machines":   {"ubuntu-24.04", imagesOf(metal.FeatureFirewall, newer), false},
		"no images":                         {"ubuntu-24.04", imagesOf(""), false},
		"catalogue is not known":            {"ubuntu-24.04", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			f.source.Images = c.images
			m := phonedHome()
			f.facts.machines[m.ID] = m
			record := f.allocated(m)
			record.Spec.Image = c.image
			shown := f.project(record, nil)
			assert.True(t, shown.Status.Ready, "the machine works")
			got := imageUpToDateOf(shown)
			if !c.newer {
				require.Nil(t, got)
				return
			}
			require.NotNil(t, got)
			assert.Equal(t, metav1.ConditionFalse, got.Status)
			assert.Equal(t, infrastructure.ReasonNewerImageAvailable, got.Reason)
			assert.Equal(t, `Image "ubuntu-24.04" stands for "`+newer+`" now; machine `+machineID+` has "`+installed+`".`, got.Message)
			assert.Equal(t, *record.Status.Allocation.StartTime, got.LastTransitionTime)
			assert.EqualValues(t, 3, got.ObservedGeneration)
			require.Equal(t, shown, f.project(record, shown))
		})
	}
}

func TestImageUpToDate_IsOfMetalThatIsShown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.source.Images = imagesOf(metal.FeatureMachine, "ubuntu-24.04.20260401")
	m := phonedHome()
	record := f.allocated(m)
	require.Nil(t, imageUpToDateOf(f.project(f.record(""), nil)))
	require.Nil(t, imageUpToDateOf(f.project(record, nil)), "not observed yet")

	f.facts.machines[m.ID] = m
	shown := f.project(record, nil)
	newer := imageUpToDateOf(shown)
	require.NotNil(t, newer)
	delete(f.facts.machines, m.ID)
	require.Equal(t, newer, imageUpToDateOf(f.project(record, shown)), "what was shown is shown on")

	// Yet another image is no transition.
	f.facts.machines[m.ID] = m
	f.source.Images = imagesOf(metal.FeatureMachine, "ubuntu-24.04.20260501")
	f.clock.SetTime(f.clock.Now().Add(time.Hour))
	next := imageUpToDateOf(f.project(record, shown))
	require.Contains(t, next.Message, "20260501")
	require.Equal(t, newer.LastTransitionTime, next.LastTransitionTime)

	reinstalled := phonedHome()
	reinstalled.Allocation.Image = "ubuntu-24.04.20260501"
	f.facts.machines[m.ID] = reinstalled
	require.Nil(t, imageUpToDateOf(f.project(record, shown)))
	f.facts.machines[m.ID] = m
	record.Status.Allocation.Phase = infrastructure.AllocationReleasing
	require.Nil(t, imageUpToDateOf(f.project(record, shown)))
}

func TestImageUpToDate_OfFirewallNeedsFirewallImage(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := phonedHome()
	m.Allocation.Role, m.Allocation.Image = metal.RoleFirewall, "firewall-ubuntu-3.0.20260101"
	f.facts.machines[m.ID] = m
	record := &infrastructure.MetalStackFirewall{}
	claim := f.allocated(m)
	record.ObjectMeta, record.Status.Allocation = claim.ObjectMeta, claim.Status.Allocation
	record.Spec.Image, record.Spec.MachineType = "firewall-ubuntu-3.0", claim.Spec.MachineType
	for feature, newer := range map[string]bool{metal.FeatureFirewall: true, metal.FeatureMachine: false} {
		f.source.Images = imagesOf(feature, "firewall-ubuntu-3.0.20260401")
		shown := NewFirewallProjector(f.source).Project(record, nil).(*infrastructure.MetalStackFirewall)
		c := meta.FindStatusCondition(shown.Status.Conditions, infrastructure.ConditionImageUpToDate)
		require.Equal(t, newer, c != nil, feature)
	}
}
