// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
)

// MergeConditions returns the submitted conditions, but those that the server
// computes as they were. Allocated is a controller's only until an allocation
// has begun, and only to say what that waits for: from then on it is the
// server's, so that a late write does not overwrite its outcome.
func MergeConditions(old, submitted []metav1.Condition, begun bool) []metav1.Condition {
	mayWait := func(c metav1.Condition) bool {
		return c.Type == infrastructure.ConditionAllocated && !begun && c.Status == metav1.ConditionFalse
	}
	waits := slices.ContainsFunc(submitted, mayWait)
	var merged []metav1.Condition
	for _, c := range old {
		if slices.Contains(projection.ComputedConditions, c.Type) || (c.Type == infrastructure.ConditionAllocated && !waits) {
			merged = append(merged, c)
		}
	}
	for _, c := range submitted {
		if mayWait(c) || (c.Type != infrastructure.ConditionAllocated && !slices.Contains(projection.ComputedConditions, c.Type)) {
			merged = append(merged, c)
		}
	}
	return merged
}

// MergeInitialization returns the submitted state, but what was true stays so.
func MergeInitialization(old, submitted infrastructure.Initialization) infrastructure.Initialization {
	if old.Provisioned != nil && *old.Provisioned {
		return old
	}
	return submitted
}

// ReadyCell is what a table shows under READY.
func ReadyCell(ready bool, conditions []metav1.Condition) string {
	if c := meta.FindStatusCondition(conditions, infrastructure.ConditionReady); c != nil {
		return string(c.Status)
	}
	if ready {
		return string(metav1.ConditionTrue)
	}
	return string(metav1.ConditionFalse)
}

// OrNone is what a table shows of a value that may be empty.
func OrNone(value string) string {
	if value == "" {
		return "<none>"
	}
	return value
}

// computedConditionPaths are the paths of the conditions that the server computes.
func computedConditionPaths() []fieldpath.Path {
	var paths []fieldpath.Path
	for _, t := range projection.ComputedConditions {
		paths = append(paths, fieldpath.MakePathOrDie("status", "conditions", fieldpath.KeyByFields("type", t)))
	}
	return paths
}
