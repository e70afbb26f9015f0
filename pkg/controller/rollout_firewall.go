// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// fixedSpec is the part of a spec that a firewall cannot change while it runs. A change of
// it takes another firewall.
func fixedSpec(spec *v1alpha4.MetalStackFirewallSpec) *v1alpha4.MetalStackFirewallSpec {
	fixed := spec.DeepCopy()
	setMutableFields(fixed, &v1alpha4.MetalStackFirewallSpec{})
	return fixed
}

// setMutableFields sets the fields that can be changed while a firewall runs to those of
// another spec.
func setMutableFields(spec, wanted *v1alpha4.MetalStackFirewallSpec) {
	wanted = wanted.DeepCopy()
	spec.Controller, spec.ProvisioningTimeout, spec.AutoUpdate = wanted.Controller, wanted.ProvisioningTimeout, wanted.AutoUpdate
}

// differingMutableFields names the fields that can be changed while a firewall runs, and
// that are not those of another spec.
func differingMutableFields(spec, wanted *v1alpha4.MetalStackFirewallSpec) []string {
	var names []string
	for _, field := range []struct {
		name          string
		value, wanted any
	}{
		{"controller", spec.Controller, wanted.Controller},
		{"provisioningTimeout", spec.ProvisioningTimeout, wanted.ProvisioningTimeout},
		{"autoUpdate", spec.AutoUpdate, wanted.AutoUpdate},
	} {
		if !apiequality.Semantic.DeepEqual(field.value, field.wanted) {
			names = append(names, field.name)
		}
	}
	return names
}

// matchesSpec returns whether a firewall is what the spec says, apart from what can be
// changed while it runs. The server fills in which machine it got.
func matchesSpec(f *v1alpha4.MetalStackFirewall, wanted *v1alpha4.MetalStackFirewallSpec) bool {
	spec := fixedSpec(&f.Spec)
	if wanted.ProviderID == "" {
		spec.ProviderID = ""
	}
	return apiequality.Semantic.DeepEqual(spec, fixedSpec(wanted))
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
	alike := slices.DeleteFunc(slices.Clone(others), func(f *v1alpha4.MetalStackFirewall) bool { return !matchesSpec(f, cluster.Spec.FirewallSpec) })
	for _, f := range alike {
		replaced = append(replaced, string(f.UID))
	}
	slices.Sort(replaced)
	var annotations map[string]string
	if text := updatedFor(alike); text != "" && cluster.Spec.FirewallSpec.AutoUpdate != nil {
		annotations = map[string]string{infrastructure.UpdatedForAnnotation: text}
	}
	labels := map[string]string{infrastructure.ClusterNameLabel: clusterNameOf(cluster)}
	if filter, ok := cluster.Labels[clusterv1.WatchLabel]; ok {
		labels[clusterv1.WatchLabel] = filter
	}
	return &v1alpha4.MetalStackFirewall{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cluster.Namespace,
			Name:      firewallName(cluster.Name, cluster.Spec.FirewallSpec, replaced),
			Labels:    labels, Annotations: annotations,
			OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(cluster, v1alpha4.SchemeGroupVersion.WithKind(clusters.kind)),
			},
		},
		Spec: *cluster.Spec.FirewallSpec.DeepCopy(),
	}
}

// firewallName is at most as long as a hostname may be, and a DNS name: neither
// a dash nor a dot stands before the suffix. It does not depend on what can be changed while
// a firewall runs.
func firewallName(cluster string, spec *v1alpha4.MetalStackFirewallSpec, replaced []string) string {
	// A spec can always be written as JSON.
	written, _ := json.Marshal(fixedSpec(spec))
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
