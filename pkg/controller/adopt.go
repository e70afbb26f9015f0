// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// belongsTo returns whether a firewall is the cluster's to control: the cluster
// controls it, or nothing does and it has the label of the cluster, or a cluster
// controlled it that had the same name and was this one before a restore.
func belongsTo(cluster *v1alpha4.MetalStackCluster, f *v1alpha4.MetalStackFirewall) bool {
	controller := metav1.GetControllerOf(f)
	if controller == nil {
		return f.Labels[infrastructure.ClusterNameLabel] == clusterNameOf(cluster)
	}
	group, _, _ := strings.Cut(controller.APIVersion, "/")
	return group == v1alpha4.GroupName && controller.Kind == clusters.kind && controller.Name == cluster.Name
}

// adoptableFirewalls returns the firewalls that a cluster shall adopt: those that belong
// to it, that it does not control yet and that it made, which their names say.
// If that leaves it without a firewall like its firewallSpec, one that is like it
// and that another client created for it is adopted as well.
func adoptableFirewalls(cluster *v1alpha4.MetalStackCluster, all []*v1alpha4.MetalStackFirewall) []*v1alpha4.MetalStackFirewall {
	wanted := cluster.Spec.FirewallSpec
	if wanted == nil {
		// All that the cluster controls would be released.
		return nil
	}
	var adopted, others []*v1alpha4.MetalStackFirewall
	served := false
	for _, f := range all {
		switch {
		case f.DeletionTimestamp != nil || !belongsTo(cluster, f):
			continue
		case metav1.IsControlledBy(f, cluster):
		case isGeneratedBy(cluster, f):
			adopted = append(adopted, f)
		default:
			others = append(others, f)
			continue
		}
		served = served || matchesSpec(f, wanted)
	}
	if i := slices.IndexFunc(others, func(f *v1alpha4.MetalStackFirewall) bool { return matchesSpec(f, wanted) }); !served && i >= 0 {
		adopted = append(adopted, others[i])
	}
	return adopted
}

// deletingFirewalls returns the firewalls that belong to a cluster and are being deleted, and
// that it does not control. They are not adopted, and may serve for as long as their
// release is held.
func deletingFirewalls(cluster *v1alpha4.MetalStackCluster, all []*v1alpha4.MetalStackFirewall) []*v1alpha4.MetalStackFirewall {
	var marked []*v1alpha4.MetalStackFirewall
	for _, f := range all {
		if f.DeletionTimestamp != nil && belongsTo(cluster, f) && !metav1.IsControlledBy(f, cluster) {
			marked = append(marked, f)
		}
	}
	return marked
}

// isGeneratedBy returns whether a firewall has a name that newFirewall gives, or was
// controlled by the cluster before a restore.
func isGeneratedBy(cluster *v1alpha4.MetalStackCluster, f *v1alpha4.MetalStackFirewall) bool {
	digits, named := strings.CutPrefix(f.Name, firewallNamePrefix(cluster.Name))
	_, err := hex.DecodeString(digits)
	return (named && err == nil && len(digits) == firewallNameDigits) || metav1.GetControllerOf(f) != nil
}

// adopt makes a cluster the controller of a firewall, unless that has changed
// since that was decided.
func (r *reconciliation) adopt(ctx context.Context, cluster *v1alpha4.MetalStackCluster, f *v1alpha4.MetalStackFirewall) error {
	before := f.DeepCopy()
	if err := controllerutil.SetControllerReference(cluster, f, r.cached.Scheme()); err != nil {
		return err
	}
	if err := r.cached.Patch(ctx, f, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return err
	}
	ctrl.LoggerFrom(ctx).Info("Adopted a firewall", "firewall", f.Name)
	r.recordNormal(EventFirewallAdopted, actionRoll, fmt.Sprintf("Adopted MetalStackFirewall %s, which belongs to the cluster and had no controller", f.Name))
	return nil
}

// handleNameTaken is for a firewall that cannot be made because there is one of its
// name. It asks the server, since the cache did not show that one.
func (r *reconciliation) handleNameTaken(ctx context.Context, cluster *v1alpha4.MetalStackCluster, name string) (wait, error) {
	there := &v1alpha4.MetalStackFirewall{}
	err := r.live.Get(ctx, client.ObjectKey{Namespace: cluster.Namespace, Name: name}, there)
	switch {
	case apierrors.IsNotFound(err):
		return wait{message: "the conflicting firewall is gone", requeueAfter: inFlightRequeue}, nil
	case err != nil:
		return wait{}, err
	case there.DeletionTimestamp == nil && metav1.IsControlledBy(there, cluster):
		return wait{message: "the cache does not show the firewall yet", requeueAfter: inFlightRequeue}, nil
	case there.DeletionTimestamp == nil && belongsTo(cluster, there) && !r.belongsToAnother(cluster, there):
		return wait{message: "the firewall was adopted", requeueAfter: inFlightRequeue}, r.adopt(ctx, cluster, there)
	}
	text := nameTakenMessage(cluster, there)
	if there.DeletionTimestamp == nil && belongsTo(cluster, there) {
		text = fmt.Sprintf("cannot create MetalStackFirewall %s: it already exists and belongs to MetalStackCluster %s, which Cluster %s names: delete MetalStackCluster %s if it is not needed",
			name, r.cluster.Spec.InfrastructureRef.Name, r.cluster.Name, cluster.Name)
	}
	r.firewallReady = firewallNotReady(infrastructure.ReasonFirewallNameTaken, "%s", text)
	return wait{message: "the name of the firewall is taken", requeueAfter: fallbackRequeue}, nil
}

// nameTakenMessage says why a firewall that has the name of one to be made is not the
// cluster's, and what to do about it.
func nameTakenMessage(cluster *v1alpha4.MetalStackCluster, there *v1alpha4.MetalStackFirewall) string {
	name := "MetalStackFirewall " + there.Name
	of := there.Labels[infrastructure.ClusterNameLabel]
	switch {
	case there.DeletionTimestamp != nil:
		text := name + " is being deleted, and another one of this name is made when it is gone"
		if c := meta.FindStatusCondition(there.Status.Conditions, infrastructure.ConditionDeleting); c != nil && c.Message != "" {
			text += ": " + c.Message
		}
		return text + ". To keep its metal, make the object anew (docs/operations.md, MetalstackReleaseHeld)"
	case metav1.GetControllerOf(there) != nil:
		return fmt.Sprintf("%s already exists and is %s: delete it, or remove that owner reference to have it adopted", name, describeController(there))
	case of == "":
		return fmt.Sprintf("%s already exists without the label %s: delete it, or have it adopted: kubectl label metalstackfirewalls %s -n %s %s=%s",
			name, infrastructure.ClusterNameLabel, there.Name, there.Namespace, infrastructure.ClusterNameLabel, clusterNameOf(cluster))
	}
	return fmt.Sprintf("%s already exists and has the label %s=%s: delete it, or have it adopted: kubectl label --overwrite metalstackfirewalls %s -n %s %s=%s",
		name, infrastructure.ClusterNameLabel, of, there.Name, there.Namespace, infrastructure.ClusterNameLabel, clusterNameOf(cluster))
}

// describeController says what controls an object, for messages.
func describeController(obj client.Object) string {
	if c := metav1.GetControllerOf(obj); c != nil {
		return fmt.Sprintf("controlled by %s %s", c.Kind, c.Name)
	}
	return "no controller"
}

// controllerUID returns the uid of the object's controller; none if nothing
// controls it.
func controllerUID(obj client.Object) types.UID {
	if c := metav1.GetControllerOf(obj); c != nil {
		return c.UID
	}
	return ""
}
