// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

type client = typed.InfrastructureV1alpha4Interface

// attempts are those of a user who may do everything with our kinds in a
// namespace of their own.
func attempts() []attempt {
	forbidden, invalid, notFound := metav1.StatusReasonForbidden, metav1.StatusReasonInvalid, metav1.StatusReasonNotFound
	return []attempt{
		{"list", forbidden, func(ctx context.Context, c client, v *target) error {
			return empty(names(ctx, c, v.namespace, metav1.ListOptions{}))
		}},
		{"get", forbidden, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackMachines(v.namespace).Get(ctx, v.machine, metav1.GetOptions{}))
		}},
		{"get what was discovered", forbidden, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackMachines(v.namespace).Get(ctx, v.discovered, metav1.GetOptions{}))
		}},
		{"watch", forbidden, func(ctx context.Context, c client, v *target) error {
			return watched(ctx, c, v.namespace, metav1.ListOptions{})
		}},
		{"watch one object", forbidden, func(ctx context.Context, c client, v *target) error {
			return watched(ctx, c, v.namespace, metav1.ListOptions{FieldSelector: "metadata.name=" + v.machine})
		}},
		{"create", forbidden, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackMachines(v.namespace).Create(ctx, objects.Machine("thief"), metav1.CreateOptions{}))
		}},
		{"update", forbidden, func(ctx context.Context, c client, v *target) error {
			m := objects.Machine(v.machine)
			m.ResourceVersion = "1"
			return done(c.MetalStackMachines(v.namespace).Update(ctx, m, metav1.UpdateOptions{}))
		}},
		{"patch", forbidden, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackMachines(v.namespace).Patch(ctx, v.machine, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}))
		}},
		{"apply", forbidden, func(ctx context.Context, c client, v *target) error {
			return applied(ctx, c, v.namespace, objects.Machine(v.machine))
		}},
		{"delete", forbidden, func(ctx context.Context, c client, v *target) error {
			return done(nil, c.MetalStackMachines(v.namespace).Delete(ctx, v.machine, metav1.DeleteOptions{}))
		}},
		{"delete all", forbidden, func(ctx context.Context, c client, v *target) error {
			return done(nil, c.MetalStackClusters(v.namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
		}},
		{"read its status", forbidden, func(ctx context.Context, c client, v *target) error {
			return c.RESTClient().Get().Namespace(v.namespace).Resource("metalstackmachines").Name(v.machine).SubResource("status").Do(ctx).Error()
		}},
		{"write its status", forbidden, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackMachines(v.namespace).Patch(ctx, v.machine, types.MergePatchType, []byte(`{"status":{"ready":false}}`), metav1.PatchOptions{}, "status"))
		}},
		{"allocate it", forbidden, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackMachines(v.namespace).Allocate(ctx, v.machine, &api.Allocation{}, metav1.CreateOptions{}))
		}},
		{"release it", forbidden, released(func(v *target) string { return v.namespace })},
		{"allocate for an object of one's own", forbidden, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackMachines(own).Allocate(ctx, "mine", &api.Allocation{ClusterRef: &api.LocalReference{Name: v.cluster}}, metav1.CreateOptions{}))
		}},

		{"get it by name in one's own namespace", notFound, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackMachines(own).Get(ctx, v.machine, metav1.GetOptions{}))
		}},
		{"get it by id in one's own namespace", notFound, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackMachines(own).Get(ctx, v.discovered, metav1.GetOptions{}))
		}},
		{"delete it by id in one's own namespace", notFound, func(ctx context.Context, c client, v *target) error {
			return done(nil, c.MetalStackMachines(own).Delete(ctx, v.discovered, metav1.DeleteOptions{}))
		}},
		{"select by provider ID", notFound, shownBy(func(v *target) metav1.ListOptions {
			return metav1.ListOptions{FieldSelector: "spec.providerID=metal://" + simulator.DefaultPartition + "/" + v.held}
		})},
		{"select by namespace", notFound, shownBy(func(v *target) metav1.ListOptions {
			return metav1.ListOptions{FieldSelector: "metadata.namespace=" + v.namespace}
		})},
		{"select by label", notFound, shownBy(func(v *target) metav1.ListOptions {
			return metav1.ListOptions{LabelSelector: infrastructure.ClusterNameLabel + "=" + v.cluster}
		})},
		{"watch by provider ID", notFound, func(ctx context.Context, c client, v *target) error {
			return watched(ctx, c, own, metav1.ListOptions{FieldSelector: "spec.providerID=metal://" + simulator.DefaultPartition + "/" + v.discovered})
		}},

		{"machine with its provider ID", invalid, withMachine(func(m *api.MetalStackMachine, v *target) { m.Spec.ProviderID = "metalstack://" + v.held })},
		{"machine with the provider ID of what was discovered", invalid, withMachine(func(m *api.MetalStackMachine, v *target) {
			m.Spec.ProviderID = "metal://" + simulator.DefaultPartition + "/" + v.discovered
		})},
		{"machine in a dry run", invalid, withMachine(func(m *api.MetalStackMachine, v *target) { m.Spec.ProviderID = "metal:///" + v.held }, metav1.DryRunAll)},
		{"machine by server-side apply", invalid, func(ctx context.Context, c client, v *target) error {
			m := objects.Machine("thief")
			m.Spec.ProviderID = "metal:///" + v.held
			return applied(ctx, c, own, m)
		}},
		{"machine that is changed", invalid, patched(`{"spec":{"providerID":"metal:///%s"}}`, func(v *target) string { return v.held })},
		{"machine in their network", invalid, withMachine(func(m *api.MetalStackMachine, v *target) { m.Spec.Networks = []string{v.network} })},
		{"machine that is changed to their network", invalid, patched(`{"spec":{"networks":[%q]}}`, func(v *target) string { return v.network })},
		{"machine with their secret", invalid, withMachine(func(m *api.MetalStackMachine, v *target) {
			m.Spec.UserData = &api.SecretReference{Name: v.machine, Namespace: v.namespace}
		})},
		{"machine that bears their uid", invalid, withMachine(func(m *api.MetalStackMachine, v *target) { m.Spec.Tags = []string{infrastructure.UIDTag + "=" + v.uid} })},

		{"firewall with its provider ID", invalid, withFirewall(func(f *api.MetalStackFirewall, v *target) { f.Spec.ProviderID = "metal:///" + v.held })},
		{"firewall with their secret", invalid, withFirewall(func(f *api.MetalStackFirewall, v *target) {
			f.Spec.UserData = &api.SecretReference{Name: v.machine, Namespace: v.namespace}
		})},
		{"firewall in their network", invalid, withFirewall(func(f *api.MetalStackFirewall, v *target) { f.Spec.Networks = []string{v.network} })},

		{"cluster of their project", invalid, withCluster(func(s *api.MetalStackClusterSpec, v *target) { s.ProjectID = v.project })},
		{"cluster in their private network", invalid, withCluster(func(s *api.MetalStackClusterSpec, v *target) { s.PrivateNetworkID = v.network })},
		{"cluster behind their private network", invalid, withCluster(func(s *api.MetalStackClusterSpec, v *target) { s.PublicNetworkID = v.network })},
		{"cluster at their address", invalid, withCluster(func(s *api.MetalStackClusterSpec, v *target) { s.ControlPlaneEndpoint.Host = v.address })},
		{"cluster with a firewall in their network", invalid, withCluster(withFirewallSpec(func(s *api.MetalStackFirewallSpec, v *target) { s.Networks = []string{v.network} }))},
		{"cluster whose Services may have addresses in their network", invalid, withCluster(func(s *api.MetalStackClusterSpec, v *target) {
			s.MetalAPIAccess = &api.MetalAPIAccess{AdditionalNetworkIDs: []string{v.network}}
		})},
		{"cluster with their machine as its firewall", invalid, withCluster(withFirewallSpec(func(s *api.MetalStackFirewallSpec, v *target) { s.ProviderID = "metal:///" + v.held }))},
		{"cluster with a firewall with their secret", invalid, withCluster(withFirewallSpec(func(s *api.MetalStackFirewallSpec, v *target) {
			s.UserData = &api.SecretReference{Name: v.machine, Namespace: v.namespace}
		}))},
		{"cluster that is changed to their private network", invalid, patchedCluster(`{"spec":{"privateNetworkID":%q}}`, func(v *target) string { return v.network })},
		{"cluster that is changed to their address", invalid, patchedCluster(`{"spec":{"controlPlaneEndpoint":{"host":%q}}}`, func(v *target) string { return v.address })},
		{"cluster that is changed to their project", invalid, patchedCluster(`{"spec":{"projectID":%q}}`, func(v *target) string { return v.project })},

		{"cluster template of their project", invalid, withTemplate(func(s *api.MetalStackClusterSpec, v *target) { s.ProjectID = v.project })},
		{"cluster template in their private network", invalid, withTemplate(func(s *api.MetalStackClusterSpec, v *target) { s.PrivateNetworkID = v.network })},
		{"cluster template with a firewall in their network", invalid, withTemplate(withFirewallSpec(func(s *api.MetalStackFirewallSpec, v *target) { s.Networks = []string{v.network} }))},
		{"cluster template at their address", invalid, withTemplate(func(s *api.MetalStackClusterSpec, v *target) { s.ControlPlaneEndpoint.Host = v.address })},
		{"machine template in their network", invalid, withMachineTemplate(func(s *api.MetalStackMachineSpec, v *target) { s.Networks = []string{v.network} })},
		{"machine template with their machine", invalid, withMachineTemplate(func(s *api.MetalStackMachineSpec, v *target) { s.ProviderID = "metal:///" + v.held })},
		{"machine template with their secret", invalid, withMachineTemplate(func(s *api.MetalStackMachineSpec, v *target) {
			s.UserData = &api.SecretReference{Name: v.machine, Namespace: v.namespace}
		})},
	}
}

// overreaching are those of a user who may write all subresources, too. What
// comes with the server's finalizer, as after a move, is let in with a warning;
// no metal is given to it.
func overreaching() []attempt {
	invalid, notFound := metav1.StatusReasonInvalid, metav1.StatusReasonNotFound
	return []attempt{
		{"join their cluster", notFound, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackMachines(own).Allocate(ctx, "mine", &api.Allocation{ClusterRef: &api.LocalReference{Name: v.cluster}}, metav1.CreateOptions{}))
		}},
		{"adopt their machine", invalid, adopted("adopt-", func(v *target) string { return v.held })},
		{"adopt what was discovered", invalid, adopted("found-", func(v *target) string { return v.discovered })},
		{"adopt their network", invalid, allocated("net-", func(s *api.MetalStackClusterSpec, v *target) { s.PrivateNetworkID = v.network })},
		{"adopt their address", invalid, allocated("ip-", func(s *api.MetalStackClusterSpec, v *target) { s.ControlPlaneEndpoint.Host = v.address })},
		{"claim their machine in a status", notFound, func(ctx context.Context, c client, v *target) error {
			status := map[string]any{"allocation": map[string]any{"phase": "Allocated", "machineID": v.held, "allocationUUID": v.uid}}
			patch, err := json.Marshal(map[string]any{"status": status})
			if err != nil {
				return err
			}
			m, err := c.MetalStackMachines(own).Patch(ctx, "mine", types.MergePatchType, patch, metav1.PatchOptions{}, "status")
			if err == nil && m.Status.Allocation == nil {
				return empty(nil, nil) // as if it had not been said
			}
			return done(m, err)
		}},
		{"release their machine by its name", notFound, released(func(*target) string { return own })},
	}
}

func patchedCluster(format string, word func(v *target) string) func(context.Context, client, *target) error {
	return func(ctx context.Context, c client, v *target) error {
		return done(c.MetalStackClusters(own).Patch(ctx, "mine", types.MergePatchType, fmt.Appendf(nil, format, word(v)), metav1.PatchOptions{}))
	}
}

func withMachineTemplate(change func(s *api.MetalStackMachineSpec, v *target)) func(context.Context, client, *target) error {
	return func(ctx context.Context, c client, v *target) error {
		m := &api.MetalStackMachineTemplate{ObjectMeta: metav1.ObjectMeta{Name: "thief"}}
		m.Spec.Template.Spec = objects.Machine("").Spec
		change(&m.Spec.Template.Spec, v)
		return done(c.MetalStackMachineTemplates(own).Create(ctx, m, metav1.CreateOptions{}))
	}
}

func applied(ctx context.Context, c client, namespace string, m *api.MetalStackMachine) error {
	m.TypeMeta = metav1.TypeMeta{APIVersion: api.SchemeGroupVersion.String(), Kind: "MetalStackMachine"}
	body, err := json.Marshal(map[string]any{
		"apiVersion": m.APIVersion, "kind": m.Kind, "metadata": map[string]any{"name": m.Name}, "spec": m.Spec,
	})
	if err != nil {
		return err
	}
	return done(c.MetalStackMachines(namespace).Patch(ctx, m.Name, types.ApplyPatchType, body, metav1.PatchOptions{FieldManager: "thief"}))
}

func released(namespace func(v *target) string) func(context.Context, client, *target) error {
	return func(ctx context.Context, c client, v *target) error {
		return done(nil, c.RESTClient().Delete().Namespace(namespace(v)).Resource("metalstackmachines").Name(v.machine).SubResource("allocation").Do(ctx).Error())
	}
}

// adopted brings a machine along that names a target's, and asks for it.
func adopted(name string, id func(v *target) string) func(context.Context, client, *target) error {
	return func(ctx context.Context, c client, v *target) error {
		m := objects.Machine(name + v.machine)
		m.Finalizers, m.Spec.Partition, m.Spec.ProviderID = []string{infrastructure.MachineFinalizer}, simulator.DefaultPartition, "metal:///"+id(v)
		m.Annotations = map[string]string{infrastructure.PausedAnnotation: ""}
		if _, err := c.MetalStackMachines(own).Create(ctx, m, metav1.CreateOptions{}); err != nil {
			return errors.Join(errSuccess, err)
		}
		return done(c.MetalStackMachines(own).Allocate(ctx, m.Name, &api.Allocation{}, metav1.CreateOptions{}))
	}
}

// allocated brings a cluster along that names what is a target's, and asks for
// it.
func allocated(name string, change func(s *api.MetalStackClusterSpec, v *target)) func(context.Context, client, *target) error {
	return func(ctx context.Context, c client, v *target) error {
		m := objects.Cluster(name + v.cluster)
		m.Finalizers, m.Annotations = []string{infrastructure.ClusterFinalizer}, map[string]string{infrastructure.PausedAnnotation: ""}
		change(&m.Spec, v)
		if _, err := c.MetalStackClusters(own).Create(ctx, m, metav1.CreateOptions{}); err != nil {
			return errors.Join(errSuccess, err)
		}
		return done(c.MetalStackClusters(own).Allocate(ctx, m.Name, &api.Allocation{}, metav1.CreateOptions{}))
	}
}
