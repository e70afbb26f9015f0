// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// A rollout is what there is to do about the firewalls of a cluster, so that
// one like its firewallSpec serves it at all times.
type rollout struct {
	// create is the firewall to make, and why.
	create       *v1alpha4.MetalStackFirewall
	createReason string
	// deletions are the firewalls that are not needed any more.
	deletions []firewallDeletion
	// status sums up; nil without a firewallSpec.
	status *metav1.Condition
	// requeueAfter is when time alone changes the plan.
	requeueAfter time.Duration
}

type firewallDeletion struct {
	firewall *v1alpha4.MetalStackFirewall
	reason   string
}

// planRollout decides about the firewalls that a cluster owns. A firewall
// that is like the spec and works is kept; if there is none, one is made; and
// everything else goes as soon as that one has phoned home, or at once if it
// never served. While it is unknown of one whether it serves, none is made, and
// none goes for never having served.
func planRollout(cluster *v1alpha4.MetalStackCluster, owned []*v1alpha4.MetalStackFirewall, now time.Time, unhealthyTimeout time.Duration) rollout {
	var r rollout
	wanted := cluster.Spec.FirewallSpec
	if wanted == nil {
		for _, f := range owned {
			r.planDelete(f, "the cluster has no firewallSpec any more")
		}
		return r
	}

	var candidates, others []*v1alpha4.MetalStackFirewall
	reasons := map[*v1alpha4.MetalStackFirewall]string{}
	for _, f := range owned {
		left, why := checkHealth(f, now, unhealthyTimeout)
		switch {
		case f.DeletionTimestamp != nil:
			why = "it is being deleted"
		case !matchesSpec(f, wanted):
			why = "firewallSpec has changed"
		case why == "":
			candidates = append(candidates, f)
			if left > 0 && (r.requeueAfter == 0 || left < r.requeueAfter) {
				r.requeueAfter = left
			}
			continue
		}
		reasons[f] = why
		others = append(others, f)
	}
	slices.SortFunc(candidates, compareFirewalls)

	undecided := slices.IndexFunc(owned, isUndetermined)
	if undecided >= 0 && (r.requeueAfter == 0 || fallbackRequeue < r.requeueAfter) {
		r.requeueAfter = fallbackRequeue
	}
	if len(candidates) == 0 && undecided >= 0 {
		r.status = undeterminedCondition(owned[undecided])
		return r
	}
	if len(candidates) == 0 {
		r.planCreate(cluster, others, reasons)
		return r
	}
	chosen := candidates[0]
	for _, f := range candidates[1:] {
		reasons[f] = "one is enough"
	}
	others = append(others, candidates[1:]...)
	for _, f := range others {
		switch {
		case chosen.Status.Ready:
			r.planDelete(f, reasons[f]+", and "+chosen.Name+" has phoned home")
		case undecided < 0 && !hasPhonedHome(f):
			r.planDelete(f, reasons[f]+", and it has never served")
		}
	}
	r.status = firewallCondition(chosen, others)
	return r
}

// planCreate makes a firewall where there is none that will do.
func (r *rollout) planCreate(cluster *v1alpha4.MetalStackCluster, others []*v1alpha4.MetalStackFirewall, reasons map[*v1alpha4.MetalStackFirewall]string) {
	wanted := cluster.Spec.FirewallSpec
	for _, f := range others {
		if usesSameMachine(f, wanted) {
			// Two cannot have one machine, so that the cluster is without for a while.
			r.planDelete(f, reasons[f]+", and its machine is the one that firewallSpec names")
			r.status = firewallNotReady(infrastructure.ReasonFirewallReplacing, "MetalStackFirewall %s must be deleted before its machine can be allocated again: %s", f.Name, reasons[f])
		}
	}
	if r.status != nil {
		return
	}
	r.create = newFirewall(cluster, others)
	r.createReason = "the cluster has none"
	reason := infrastructure.ReasonFirewallProvisioning
	for _, f := range others {
		r.createReason = reasons[f] + " (" + f.Name + ")"
		reason = infrastructure.ReasonFirewallRollingOut
		if matchesSpec(f, wanted) {
			reason = infrastructure.ReasonFirewallReplacing
			break
		}
	}
	r.status = firewallNotReady(reason, "MetalStackFirewall %s is being created: %s", r.create.Name, r.createReason)
}

func (r *rollout) planDelete(f *v1alpha4.MetalStackFirewall, why string) {
	if f.DeletionTimestamp == nil && !isUndetermined(f) {
		r.deletions = append(r.deletions, firewallDeletion{f, why})
	}
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

// checkHealth returns why a firewall is to be replaced, or for how long it may still
// be as it is until then. One that is gone is at once; one that crashes or is
// silent, or came back to an earlier step, after unhealthyTimeout.
func checkHealth(f *v1alpha4.MetalStackFirewall, now time.Time, unhealthyTimeout time.Duration) (left time.Duration, why string) {
	ready := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionReady)
	if ready == nil || ready.Status == metav1.ConditionTrue || allocationOf(f).Phase != v1alpha4.AllocationAllocated {
		return 0, ""
	}
	switch ready.Reason {
	case infrastructure.ReasonAllocationGone:
		return 0, "it is gone"
	case infrastructure.ReasonNotObserved:
		return 0, ""
	case infrastructure.ReasonCrashLoop, infrastructure.ReasonFailedReclaim, infrastructure.ReasonUnreachable:
	default:
		if !hasPhonedHome(f) {
			// It takes as long as it takes.
			return 0, ""
		}
	}
	since := ready.LastTransitionTime.Time
	if began := allocationOf(f).StartTime; began != nil && began.After(since) {
		since = began.Time
	}
	if left = since.Add(unhealthyTimeout).Sub(now); left > 0 {
		return left, ""
	}
	return 0, "it has not been ready since " + since.UTC().Format(time.RFC3339)
}

// compareFirewalls orders firewalls that are like the spec by how well they serve.
func compareFirewalls(a, b *v1alpha4.MetalStackFirewall) int {
	rank := func(f *v1alpha4.MetalStackFirewall) int {
		switch {
		case f.Status.Ready:
			return 0
		case hasPhonedHome(f):
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// matchesSpec returns whether a firewall is what the spec says. The server fills in
// which machine it got.
func matchesSpec(f *v1alpha4.MetalStackFirewall, wanted *v1alpha4.MetalStackFirewallSpec) bool {
	spec := f.Spec.DeepCopy()
	if wanted.ProviderID == "" {
		spec.ProviderID = ""
	}
	return apiequality.Semantic.DeepEqual(spec, wanted)
}

// hasPhonedHome returns whether a firewall has ever phoned home. That it has now is
// seen a moment before it is written down. One that is unreachable, and of which it
// is unknown whether it is ready, had phoned home last.
func hasPhonedHome(f *v1alpha4.MetalStackFirewall) bool {
	ready := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionReady)
	silent := ready != nil && ready.Status == metav1.ConditionUnknown && ready.Reason == infrastructure.ReasonUnreachable
	return f.Status.Ready || isProvisioned(f) || silent
}

// isUndetermined returns whether it cannot be said yet if a firewall serves: it names its
// machine, as after a restore or a move, and the server has neither allocated nor
// refused that machine, or has not observed it yet.
func isUndetermined(f *v1alpha4.MetalStackFirewall) bool {
	if f.DeletionTimestamp != nil || f.Spec.ProviderID == "" || hasPhonedHome(f) {
		return false
	}
	switch allocationOf(f).Phase {
	case "":
		allocated := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionAllocated)
		return allocated == nil || allocated.Reason != infrastructure.ReasonAllocationRefused
	case v1alpha4.AllocationAllocating:
		return true
	case v1alpha4.AllocationAllocated:
		ready := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionReady)
		return ready == nil || ready.Reason == infrastructure.ReasonNotObserved
	}
	return false
}

func undeterminedCondition(f *v1alpha4.MetalStackFirewall) *metav1.Condition {
	text := "Whether MetalStackFirewall " + f.Name + " serves is unknown until the API server has observed its machine (spec.providerID)"
	if c := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionAllocated); c != nil && c.Message != "" {
		text += ": " + c.Message
	}
	return firewallNotReady(infrastructure.ReasonFirewallProvisioning, "%s", text)
}

func usesSameMachine(f *v1alpha4.MetalStackFirewall, wanted *v1alpha4.MetalStackFirewallSpec) bool {
	a, errA := providerid.Parse(f.Spec.ProviderID)
	b, errB := providerid.Parse(wanted.ProviderID)
	return errA == nil && errB == nil && a.MachineID == b.MachineID && allocationOf(f).Phase != v1alpha4.AllocationReleased
}

// newFirewall is a firewall as the cluster's spec says. Its name follows from
// the spec and from the firewalls that it replaces, so that, asked twice, for
// example by a cache that lags behind, it is the same one.
func newFirewall(cluster *v1alpha4.MetalStackCluster, others []*v1alpha4.MetalStackFirewall) *v1alpha4.MetalStackFirewall {
	var replaced []string
	for _, f := range others {
		if matchesSpec(f, cluster.Spec.FirewallSpec) {
			replaced = append(replaced, string(f.UID))
		}
	}
	slices.Sort(replaced)
	labels := map[string]string{infrastructure.ClusterNameLabel: clusterNameOf(cluster)}
	if filter, ok := cluster.Labels[clusterv1.WatchLabel]; ok {
		labels[clusterv1.WatchLabel] = filter
	}
	return &v1alpha4.MetalStackFirewall{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cluster.Namespace,
			Name:      firewallName(cluster.Name, cluster.Spec.FirewallSpec, replaced),
			Labels:    labels,
			OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(cluster, v1alpha4.SchemeGroupVersion.WithKind(clusters.kind)),
			},
		},
		Spec: *cluster.Spec.FirewallSpec.DeepCopy(),
	}
}

// firewallName is at most as long as a hostname may be, and a DNS name: neither
// a dash nor a dot stands before the suffix.
func firewallName(cluster string, spec *v1alpha4.MetalStackFirewallSpec, replaced []string) string {
	// A spec can always be written as JSON.
	written, _ := json.Marshal(spec)
	sum := sha256.Sum256([]byte(cluster + "\n" + string(written) + "\n" + strings.Join(replaced, "\n")))
	return firewallNamePrefix(cluster) + hex.EncodeToString(sum[:])[:firewallNameDigits]
}

// firewallNameDigits is how many hexadecimal digits the name of a firewall ends with.
const firewallNameDigits = 8

// firewallNamePrefix is what the names of a cluster's firewalls begin with.
func firewallNamePrefix(cluster string) string {
	const infix = "-firewall-"
	longest := validation.DNS1123LabelMaxLength - len(infix) - firewallNameDigits
	return strings.TrimRight(cluster[:min(len(cluster), longest)], "-.") + infix
}

// clusterNameOf returns the name under which a MetalStackCluster's members
// know it: that of the Cluster, or its own if there is none.
func clusterNameOf(cluster *v1alpha4.MetalStackCluster) string {
	return cmp.Or(cluster.Labels[infrastructure.ClusterNameLabel], cluster.Name)
}
