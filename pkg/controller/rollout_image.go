// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// maxWindowRequeue is how soon a maintenance window is computed again: time zones change.
const maxWindowRequeue = time.Hour

// divideByImage takes out of the candidates those that have an old image, if the spec has
// them replaced for it. A replacement begins within the maintenance window, and while the
// cluster has no other firewall; one that has begun is finished, also while nothing is known
// of newer images.
func (r *rollout) divideByImage(candidates []*v1alpha4.MetalStackFirewall, alone bool, wanted *v1alpha4.MetalStackFirewallSpec, now time.Time) (kept, old []*v1alpha4.MetalStackFirewall) {
	if wanted.AutoUpdate == nil {
		return candidates, nil
	}
	for _, f := range candidates {
		newer := cmp.Or(newerImage(f), imageOfSuccessor(f, candidates))
		if newer != "" && newer != f.Annotations[infrastructure.UpdatedForAnnotation] {
			old = append(old, f)
			r.reasons[f] = "a newer image is available: " + newer
			continue
		}
		kept = append(kept, f)
	}
	switch {
	case len(old) == 0 || len(kept) > 0:
		return kept, old
	case alone && old[0].Status.Ready && r.windowOpen(wanted.AutoUpdate.MaintenanceWindow, now):
		return nil, old
	}
	for _, f := range old {
		delete(r.reasons, f)
	}
	return old, nil
}

// windowOpen returns whether a maintenance window is open, and otherwise has the plan made
// again when it is.
func (r *rollout) windowOpen(window *v1alpha4.MaintenanceWindow, now time.Time) bool {
	if window == nil {
		return true
	}
	open, next, err := findWindow(window, now)
	switch {
	case err != nil:
		r.imageNote = "A newer image is available, and the maintenance window is unknown: " + err.Error()
		r.requeueWithin(maxWindowRequeue)
	case !open:
		r.imageNote = "A newer image is available, and the maintenance window begins at " + next.UTC().Format(time.RFC3339)
		r.requeueWithin(min(next.Sub(now), maxWindowRequeue))
	}
	return open && err == nil
}

// newerImage returns the newest image that the image of a firewall stands for, if it has an
// older one; nothing if the server knows of none, or knows of no images yet.
func newerImage(f *v1alpha4.MetalStackFirewall) string {
	c := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionImageUpToDate)
	if c == nil || c.Status != metav1.ConditionFalse || c.Reason != infrastructure.ReasonNewerImageAvailable {
		return ""
	}
	return oneline.Sanitize(infrastructure.NewestImageOf(c.Message), oneline.MaxNote)
}

// imageOfSuccessor returns for which newer image a younger firewall was made in place of one.
func imageOfSuccessor(f *v1alpha4.MetalStackFirewall, all []*v1alpha4.MetalStackFirewall) string {
	for _, g := range all {
		if image := g.Annotations[infrastructure.UpdatedForAnnotation]; image != "" && f.CreationTimestamp.Before(&g.CreationTimestamp) {
			return image
		}
	}
	return ""
}

// updatedFor returns for which newer image the successor of firewalls is made: if it has the
// same image as they have, it is not replaced for that one again.
func updatedFor(replaced []*v1alpha4.MetalStackFirewall) string {
	newest := slices.Clone(replaced)
	slices.SortFunc(newest, func(a, b *v1alpha4.MetalStackFirewall) int {
		return b.CreationTimestamp.Compare(a.CreationTimestamp.Time)
	})
	for _, f := range newest {
		if text := newerImage(f); text != "" {
			return text
		}
	}
	return ""
}
