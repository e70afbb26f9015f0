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
)

func matchesSpecOf(m *infrastructure.MetalStackMachine) *metav1.Condition {
	return meta.FindStatusCondition(m.Status.Conditions, infrastructure.ConditionMatchesSpec)
}

func TestMatchesSpec_NamesWhatIsNotAsTheSpecSays(t *testing.T) {
	t.Parallel()
	const metalHas = "Machine " + machineID + " has "
	for name, c := range map[string]struct {
		image, size string
		adopted     bool
		reason      string // "" if there is no condition
		message     string
	}{
		"allocated":                            {"ubuntu-24.04", "v1-small-x86", false, "", ""},
		"adopted":                              {"ubuntu-24.04", "v1-small-x86", true, infrastructure.ReasonMatchesSpec, metalHas + "the size and the image of the spec."},
		"adopted, by full image id":            {"ubuntu-24.04.20260101", "v1-small-x86", true, infrastructure.ReasonMatchesSpec, metalHas + "the size and the image of the spec."},
		"adopted, of another size":             {"ubuntu-24.04", "c1-large-x86", true, infrastructure.ReasonOtherSize, metalHas + `size "v1-small-x86" (spec.machineType: "c1-large-x86").`},
		"adopted, with another image":          {"debian-12", "v1-small-x86", true, infrastructure.ReasonOtherImage, metalHas + `image "ubuntu-24.04.20260101" (spec.image: "debian-12").`},
		"adopted, with an older image":         {"ubuntu-24.04.20260201", "v1-small-x86", true, infrastructure.ReasonOtherImage, metalHas + `image "ubuntu-24.04.20260101" (spec.image: "ubuntu-24.04.20260201").`},
		"adopted, of another size and image":   {"debian-12", "c1-large-x86", true, infrastructure.ReasonOtherSize, metalHas + `size "v1-small-x86" (spec.machineType: "c1-large-x86") and image "ubuntu-24.04.20260101" (spec.image: "debian-12").`},
		"allocated, and reinstalled elsewhere": {"debian-12", "v1-small-x86", false, infrastructure.ReasonOtherImage, metalHas + `image "ubuntu-24.04.20260101" (spec.image: "debian-12").`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			m := phonedHome()
			f.facts.machines[m.ID] = m
			record := f.allocated(m)
			record.Spec.Image, record.Spec.MachineType, record.Status.Allocation.Adopted = c.image, c.size, c.adopted
			shown := f.project(record, nil)
			assert.True(t, shown.Status.Ready, "the machine works")
			got := matchesSpecOf(shown)
			if c.reason == "" {
				require.Nil(t, got)
				return
			}
			require.NotNil(t, got)
			assert.Equal(t, c.reason == infrastructure.ReasonMatchesSpec, got.Status == metav1.ConditionTrue)
			assert.Equal(t, c.reason, got.Reason)
			assert.Equal(t, c.message, got.Message)
			assert.Equal(t, *record.Status.Allocation.StartTime, got.LastTransitionTime)
			assert.EqualValues(t, 3, got.ObservedGeneration)
		})
	}
}

func TestMatchesSpec_IsOfMetalThatIsShown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := phonedHome()
	record := f.allocated(m)
	record.Status.Allocation.Adopted, record.Spec.MachineType = true, "c1-large-x86"
	require.Nil(t, matchesSpecOf(f.project(record, nil)), "not observed yet")

	f.facts.machines[m.ID] = m
	shown := f.project(record, nil)
	other := matchesSpecOf(shown)
	require.NotNil(t, other)
	delete(f.facts.machines, m.ID)
	require.Equal(t, other, matchesSpecOf(f.project(record, shown)), "what was shown is shown on")

	// The clock dates what nothing in metal dates.
	resized := phonedHome()
	resized.Size = "c1-large-x86"
	f.facts.machines[m.ID] = resized
	f.clock.SetTime(f.clock.Now().Add(time.Hour))
	matches := matchesSpecOf(f.project(record, shown))
	require.Equal(t, metav1.ConditionTrue, matches.Status)
	require.Equal(t, f.clock.Now(), matches.LastTransitionTime.Time)

	freed := phonedHome()
	freed.Allocation = nil
	f.facts.machines[m.ID] = freed
	require.Nil(t, matchesSpecOf(f.project(record, shown)), "it is not the object's any more")
	f.facts.machines[m.ID] = m
	record.Status.Allocation.Phase = infrastructure.AllocationReleasing
	require.Nil(t, matchesSpecOf(f.project(record, shown)))
}
