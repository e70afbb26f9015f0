// SPDX-License-Identifier: Apache-2.0

package metalccm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/metal-stack/metal-go/api/models"
	metalnet "github.com/metal-stack/metal-lib/pkg/net"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"
)

// TaintUninitialized is on Nodes whose kubelet has the flag --cloud-provider=external,
// until a cloud controller manager knows them.
const TaintUninitialized = "node.cloudprovider.kubernetes.io/uninitialized"

var everything = labels.Everything()

func (c *Controller) nodeHandler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { c.nodeQueue.Add(obj.(*corev1.Node).Name) },
		UpdateFunc: func(_, obj any) { c.nodeQueue.Add(obj.(*corev1.Node).Name) },
	}
}

// syncNode gives a new Node its provider ID, labels for the size, and addresses.
func (c *Controller) syncNode(ctx context.Context, name string) error {
	node, err := c.nodes.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !isUninitialized(node) {
		return nil
	}
	m, err := c.forNodes.ofNode(ctx, node)
	if err != nil {
		return fmt.Errorf("failed to get instance metadata for node %s: %w", name, err)
	}
	if m.ID == nil || m.Partition == nil || m.Partition.ID == nil || m.Size == nil || m.Size.ID == nil {
		return fmt.Errorf("machine of node %s has no id, partition or size", name)
	}
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		node, err := c.Client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if node.Spec.ProviderID == "" {
			node.Spec.ProviderID = fmt.Sprintf("metal://%s/%s", *m.Partition.ID, *m.ID)
		}
		if node.Labels == nil {
			node.Labels = map[string]string{}
		}
		node.Labels[corev1.LabelInstanceType], node.Labels[corev1.LabelInstanceTypeStable] = *m.Size.ID, *m.Size.ID
		node.Spec.Taints = slices.DeleteFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == TaintUninitialized })
		_, err = c.Client.CoreV1().Nodes().Update(ctx, node, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		return err
	}
	if addresses := nodeAddresses(m, c.Environment.ExternalNetwork); len(addresses) > 0 {
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"addresses": addresses}})
		if err != nil {
			return err
		}
		if _, err := c.Client.CoreV1().Nodes().PatchStatus(ctx, name, patch); err != nil {
			return err
		}
	}
	return c.updateServices(ctx)
}

func isUninitialized(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == TaintUninitialized })
}

// nodeAddresses are in the primary private network, and in the external network.
func nodeAddresses(m *models.V1MachineResponse, external string) []corev1.NodeAddress {
	var addresses []corev1.NodeAddress
	if m.Allocation == nil || m.Allocation.Hostname == nil {
		return nil
	}
	for _, network := range m.Allocation.Networks {
		switch {
		case network == nil || network.Networktype == nil || len(network.Ips) == 0:
		case *network.Networktype == metalnet.PrivatePrimaryUnshared || *network.Networktype == metalnet.PrivatePrimaryShared:
			addresses = append(addresses,
				corev1.NodeAddress{Type: corev1.NodeHostName, Address: *m.Allocation.Hostname},
				corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: network.Ips[0]})
		case external != "" && network.Networkid != nil && *network.Networkid == external:
			for _, ip := range network.Ips {
				addresses = append(addresses, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: ip})
			}
		}
	}
	return addresses
}
