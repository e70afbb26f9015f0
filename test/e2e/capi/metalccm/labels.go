// SPDX-License-Identifier: Apache-2.0

package metalccm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/metal-stack/metal-go/api/models"
	"github.com/metal-stack/metal-lib/pkg/tag"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"
)

// ignoredLabel is Gardener's, which sets it itself.
const ignoredLabel = "networking.gardener.cloud/node-local-dns-enabled"

// labelHandler synchronizes labels when a Node is added, and announcements when a Node's
// address changes.
func (c *Controller) labelHandler(ctx context.Context) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) {
			c.mu.Lock()
			recent := c.Clock.Since(c.labelsSynced) < minimalPeriod
			c.mu.Unlock()
			if recent {
				return
			}
			if err := c.syncLabels(ctx); err != nil {
				c.Logf("synching tags failed: %v", err)
			}
		},
		UpdateFunc: func(old, obj any) {
			address, found := internalIP(obj.(*corev1.Node))
			if before, _ := internalIP(old.(*corev1.Node)); !found || before == address {
				return
			}
			if err := c.syncAnnouncements(ctx); err != nil {
				c.Logf("error updating load balancer config: %v", err)
			}
		},
	}
}

// syncLabels makes labels of all tags of the machines of all Nodes. One Node without a
// machine spoils them all. A machine that has another cluster id gets this one.
func (c *Controller) syncLabels(ctx context.Context) error {
	nodes, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("failed to list nodes: %w", err)
	}
	machines := map[string]*models.V1MachineResponse{}
	for i := range nodes.Items {
		m, err := c.forLabels.ofProviderID(ctx, nodes.Items[i].Spec.ProviderID)
		if err != nil {
			return err
		}
		if m.Allocation != nil && m.Allocation.Hostname != nil {
			machines[*m.Allocation.Hostname] = m
		}
	}
	var errs []error
	for i := range nodes.Items {
		name := nodes.Items[i].Name
		m := machines[name]
		if m == nil {
			c.Logf("node:%s not a machine", name)
			continue
		}
		if err := c.labelNode(ctx, name, labelsOf(m.Tags)); err != nil {
			c.Logf("tags syncher failed to update tags on node:%s: %v", name, err)
			continue
		}
		if id, _ := tag.NewTagMap(m.Tags).Value(tag.ClusterID); id != c.Environment.Cluster {
			c.machineUpdates.Add(1)
			if err := c.cloud.updateMachineTags(ctx, *m.ID, append(slices.Clone(m.Tags), tag.New(tag.ClusterID, c.Environment.Cluster))); err != nil {
				errs = append(errs, fmt.Errorf("unable to update machine tags of node %q, due %w", name, err))
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.labelsSynced = c.Clock.Now()
	return errors.Join(errs...)
}

func (c *Controller) labelNode(ctx context.Context, name string, labels map[string]string) error {
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		node, err := c.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if node.Labels == nil {
			node.Labels = map[string]string{}
		}
		maps.Copy(node.Labels, labels)
		_, err = c.Client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
		return err
	})
}

// labelsOf are the tags that have a value.
func labelsOf(tags []string) map[string]string {
	labels := map[string]string{}
	for _, t := range tags {
		if key, value, found := strings.Cut(t, "="); found && key != ignoredLabel {
			labels[key] = value
		}
	}
	return labels
}

func internalIP(node *corev1.Node) (address string, found bool) {
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address, true
		}
	}
	return "", false
}
