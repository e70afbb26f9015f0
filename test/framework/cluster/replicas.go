// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/replica"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// Lease is the one that the active server holds.
func (c *Cluster) Lease(t testing.TB) *coordinationv1.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	lease, err := c.Client().CoordinationV1().Leases(Namespace).Get(ctx, APIServer, metav1.GetOptions{})
	require.NoError(t, err)
	return lease
}

// Holder is the name of the Pod that holds the Lease.
func (c *Cluster) Holder(t testing.TB) string {
	t.Helper()
	return ptr.Deref(c.Lease(t).Spec.HolderIdentity, "")
}

// ReplicaLabels are those by which the Service finds the active server, by Pod.
func (c *Cluster) ReplicaLabels(t testing.TB) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	defer cancel()
	pods, err := c.Client().CoreV1().Pods(Namespace).List(ctx, metav1.ListOptions{LabelSelector: replica.ActiveLabel})
	require.NoError(t, err)
	labels := map[string]string{}
	for _, pod := range pods.Items {
		labels[pod.Name] = pod.Labels[replica.ActiveLabel]
	}
	return labels
}

// AwaitActive waits until one of the servers holds the Lease and the Service leads to it,
// and returns that one.
func (c *Cluster) AwaitActive(t testing.TB, servers ...*Program) (active *Program) {
	t.Helper()
	framework.Eventually(t, readyLimit, func(context.Context) error {
		holder, labels := c.Holder(t), c.ReplicaLabels(t)
		for _, p := range servers {
			if p.Name == holder && labels[p.Name] == replica.ActiveValue {
				active = p
				return nil
			}
		}
		return fmt.Errorf("the Lease is held by %q, and the labels are %v", holder, labels)
	}, "waited for an active server")
	return active
}
