// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// maxFirewalls is how many firewalls of a cluster may hold metal at a time: one that serves,
// and its successor.
const maxFirewalls = 2

// A rollout is what there is to do about the firewalls of a cluster, so that
// one like its firewallSpec serves it at all times.
type rollout struct {
	// create is the firewall to make, and why.
	create       *v1alpha4.MetalStackFirewall
	createReason string
	// updates are the firewalls whose mutable fields are not those of firewallSpec.
	updates []*v1alpha4.MetalStackFirewall
	// distances are the distances that firewalls are to have.
	distances []firewallDistance
	// deletions are the firewalls that are not needed any more.
	deletions []firewallDeletion
	// status sums up; nil without a firewallSpec.
	status *metav1.Condition
	// requeueAfter is when time alone changes the plan.
	requeueAfter time.Duration
	// reasons say of firewalls why they are not kept.
	reasons map[*v1alpha4.MetalStackFirewall]string
	// imageNote says when a newer image is taken.
	imageNote string
	// failed are the firewalls whose firewall-controller does not connect.
	failed []*v1alpha4.MetalStackFirewall

	// now is when the plan is made. A takeover waits for exchange for a report, and a firewall
	// may be unhealthy for so long.
	now                 time.Time
	exchange, unhealthy time.Duration
}

type firewallDeletion struct {
	firewall *v1alpha4.MetalStackFirewall
	reason   string
}

// planRollout decides about the firewalls that a cluster owns. A firewall
// that is like the spec and works is kept; if there is none, one is made; and
// everything else goes as soon as that one has phoned home and taken over, or at once if it
// never served. While it is unknown of one whether it serves, none is made, and
// none goes for never having served.
func planRollout(cluster *v1alpha4.MetalStackCluster, owned []*v1alpha4.MetalStackFirewall, now time.Time, options Options) rollout {
	r := rollout{reasons: map[*v1alpha4.MetalStackFirewall]string{}, now: now, unhealthy: options.FirewallUnhealthyTimeout}
	wanted := cluster.Spec.FirewallSpec
	if wanted == nil {
		for _, f := range owned {
			r.planDelete(f, "the cluster has no firewallSpec any more")
		}
		return r
	}

	r.exchange = exchangeTimeout(wanted)
	candidates, others := r.divide(owned, wanted, now, options)
	undecided := slices.IndexFunc(owned, isUndetermined)
	if undecided >= 0 {
		r.requeueWithin(fallbackRequeue)
	}
	switch {
	case len(candidates) > 0:
		for _, f := range candidates[1:] {
			r.reasons[f] = "one is enough"
		}
		r.planTakeover(candidates[0], append(others, candidates[1:]...), wanted, undecided >= 0, now)
	case undecided >= 0:
		r.status = undeterminedCondition(owned[undecided])
	default:
		r.planSuccessor(cluster, others)
	}
	if wanted.Controller == nil {
		r.planNoDistances(owned)
	}
	r.planUpdates(owned, wanted)
	r.distances = slices.DeleteFunc(r.distances, func(d firewallDistance) bool { return r.deletes(d.firewall) })
	return r
}

// divide returns the firewalls that are like the spec and work, best first, and the others,
// of which it notes why they are not kept.
func (r *rollout) divide(owned []*v1alpha4.MetalStackFirewall, wanted *v1alpha4.MetalStackFirewallSpec, now time.Time, options Options) (candidates, others []*v1alpha4.MetalStackFirewall) {
	limits := firewallLimits(wanted, options)
	for _, f := range owned {
		left, why := checkHealth(f, now, limits)
		switch {
		case f.DeletionTimestamp != nil:
			why = "it is being deleted"
		case !matchesSpec(f, wanted):
			why = "firewallSpec has changed"
		case hasKey(f.Annotations, infrastructure.ReplaceAnnotation):
			why = "it has the annotation " + infrastructure.ReplaceAnnotation
		case why == "":
			candidates = append(candidates, f)
			r.requeueWithin(left)
			continue
		}
		r.reasons[f] = why
		others = append(others, f)
	}
	if wanted.Controller != nil {
		candidates, r.failed = r.divideByConnection(candidates, others, now, limits)
		others = append(others, r.failed...)
	}
	candidates, old := r.divideByImage(candidates, len(metalHolders(owned)) == 1, wanted, now)
	slices.SortFunc(candidates, compareFirewalls)
	return candidates, append(others, old...)
}

// planTakeover has a firewall that is like the spec take the place of the others.
func (r *rollout) planTakeover(chosen *v1alpha4.MetalStackFirewall, others []*v1alpha4.MetalStackFirewall, wanted *v1alpha4.MetalStackFirewallSpec, undecided bool, now time.Time) {
	var waiting string
	if wanted.Controller != nil {
		waiting = r.planExchange(chosen, others, now)
	}
	for _, f := range others {
		switch {
		case chosen.Status.Ready && waiting == "":
			r.planDelete(f, r.reasons[f]+", and "+chosen.Name+" has phoned home")
		case !undecided && !hasPhonedHome(f):
			r.planDelete(f, r.reasons[f]+", and it has never served")
		}
	}
	r.status = firewallCondition(chosen, others)
	switch {
	case chosen.Status.Ready && waiting != "":
		r.status = firewallNotReady(infrastructure.ReasonFirewallRollingOut, "MetalStackFirewall %s has phoned home, and takes over later: %s", chosen.Name, waiting)
	case chosen.Status.Ready && r.imageNote != "":
		r.status.Message += ". " + r.imageNote
	}
}

// planSuccessor makes a firewall where there is none that will do, or room for it.
func (r *rollout) planSuccessor(cluster *v1alpha4.MetalStackCluster, others []*v1alpha4.MetalStackFirewall) {
	wanted := cluster.Spec.FirewallSpec
	if wanted.Controller != nil {
		r.planBestServing(others)
	}
	for _, f := range others {
		if usesSameMachine(f, wanted) {
			// Two cannot have one machine, so that the cluster is without for a while.
			r.planDelete(f, r.reasons[f]+", and its machine is the one that firewallSpec names")
			r.status = firewallNotReady(infrastructure.ReasonFirewallReplacing, "MetalStackFirewall %s must be deleted before its machine can be allocated again: %s", f.Name, r.reasons[f])
		}
	}
	if r.status != nil {
		return
	}
	why := "the cluster has none"
	reason := infrastructure.ReasonFirewallProvisioning
	for _, f := range others {
		why = r.reasons[f] + " (" + f.Name + ")"
		reason = infrastructure.ReasonFirewallRollingOut
		if matchesSpec(f, wanted) {
			reason = infrastructure.ReasonFirewallReplacing
			break
		}
	}
	if holders := metalHolders(others); len(holders) >= maxFirewalls {
		first := r.planRoom(holders)
		r.status = firewallNotReady(reason, "MetalStackFirewall %s must be deleted before another one is created, since at most %d firewalls of a cluster hold metal: %s", first.Name, maxFirewalls, why)
		return
	}
	r.create, r.createReason = newFirewall(cluster, others), why
	r.status = firewallNotReady(reason, "MetalStackFirewall %s is being created: %s", r.create.Name, why)
}

// planRoom deletes firewalls that hold metal until there is room for another one: all that do
// not serve, and then those that serve worst. It returns one that goes.
func (r *rollout) planRoom(holders []*v1alpha4.MetalStackFirewall) (first *v1alpha4.MetalStackFirewall) {
	holders = slices.SortedFunc(slices.Values(holders), r.compareServing(holders))
	excess := len(holders) - (maxFirewalls - 1)
	going := func(f *v1alpha4.MetalStackFirewall) {
		excess--
		if first == nil {
			first = f
		}
	}
	var serving []*v1alpha4.MetalStackFirewall
	for _, f := range holders {
		switch {
		case f.DeletionTimestamp != nil:
			going(f)
		case !hasPhonedHome(f) || isGone(f):
			r.planDelete(f, r.reasons[f]+", and it does not serve")
			going(f)
		default:
			serving = append(serving, f)
		}
	}
	for _, f := range slices.Backward(serving) {
		if excess > 0 {
			r.planDelete(f, r.reasons[f]+", and "+serving[0].Name+" serves until there is another one")
			going(f)
		}
	}
	return first
}

// planUpdates has the mutable fields of the firewalls that stay for now become those of
// firewallSpec.
func (r *rollout) planUpdates(owned []*v1alpha4.MetalStackFirewall, wanted *v1alpha4.MetalStackFirewallSpec) {
	for _, f := range owned {
		if f.DeletionTimestamp == nil && !r.deletes(f) && len(differingMutableFields(&f.Spec, wanted)) > 0 {
			r.updates = append(r.updates, f)
		}
	}
}

func (r *rollout) deletes(f *v1alpha4.MetalStackFirewall) bool {
	return slices.ContainsFunc(r.deletions, func(d firewallDeletion) bool { return d.firewall == f })
}

func (r *rollout) planDelete(f *v1alpha4.MetalStackFirewall, why string) {
	if f.DeletionTimestamp == nil && !isUndetermined(f) {
		r.deletions = append(r.deletions, firewallDeletion{f, why})
	}
}

// requeueWithin has the plan made again after a time, unless it is 0.
func (r *rollout) requeueWithin(after time.Duration) {
	if after > 0 && (r.requeueAfter == 0 || after < r.requeueAfter) {
		r.requeueAfter = after
	}
}

// metalHolders returns the firewalls that hold metal or may come to hold it.
func metalHolders(all []*v1alpha4.MetalStackFirewall) []*v1alpha4.MetalStackFirewall {
	var holders []*v1alpha4.MetalStackFirewall
	for _, f := range all {
		if allocationOf(f).Phase != v1alpha4.AllocationReleased {
			holders = append(holders, f)
		}
	}
	return holders
}

// firewallCondition is the condition for a firewall that is like the spec.
func firewallCondition(chosen *v1alpha4.MetalStackFirewall, others []*v1alpha4.MetalStackFirewall) *metav1.Condition {
	state := "MetalStackFirewall " + chosen.Name
	if c := meta.FindStatusCondition(chosen.Status.Conditions, infrastructure.ConditionReady); c != nil && c.Message != "" {
		state += ": " + c.Message
	}
	switch {
	case chosen.Status.Ready:
		return &metav1.Condition{
			Type: infrastructure.ConditionFirewallReady, Status: metav1.ConditionTrue, Reason: infrastructure.ReasonPhonedHome,
			Message: "MetalStackFirewall " + chosen.Name + " has phoned home",
		}
	case hasPhonedHome(chosen):
		return firewallNotReady(infrastructure.ReasonFirewallNotReady, "%s", state)
	case len(others) > 0:
		return firewallNotReady(infrastructure.ReasonFirewallRollingOut, "%s", state)
	}
	return firewallNotReady(infrastructure.ReasonFirewallProvisioning, "%s", state)
}

func firewallNotReady(reason, format string, args ...any) *metav1.Condition {
	return &metav1.Condition{
		Type: infrastructure.ConditionFirewallReady, Status: metav1.ConditionFalse, Reason: reason, Message: fmt.Sprintf(format, args...),
	}
}

func undeterminedCondition(f *v1alpha4.MetalStackFirewall) *metav1.Condition {
	text := "Whether MetalStackFirewall " + f.Name + " serves is unknown until the API server has observed its machine (spec.providerID)"
	if c := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionAllocated); c != nil && c.Message != "" {
		text += ": " + c.Message
	}
	return firewallNotReady(infrastructure.ReasonFirewallProvisioning, "%s", text)
}
