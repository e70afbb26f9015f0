// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const (
	own    = "team-a" // of the one who tries
	theirs = "team-b"
)

// target is what a tenant tries to reach: something that is another tenant's,
// or something that does not exist. Nothing may distinguish the two.
type target struct {
	namespace, project string
	// The names of a cluster and a machine with records.
	cluster, machine string
	// uid is the cluster's.
	uid string
	// held and discovered are the ids of machines, one with a record.
	held, discovered string
	network, address string
}

// words are what a target is known by.
func (t *target) words() []string {
	return []string{t.namespace, t.project, t.cluster, t.machine, t.uid, t.held, t.discovered, t.network, t.address}
}

// masked replaces what a target is known by.
func (t *target) masked(text string) string {
	for i, word := range t.words() {
		text = strings.ReplaceAll(text, word, fmt.Sprintf("<%d>", i))
	}
	return text
}

// none is a target that does not exist.
func none() *target {
	return &target{
		namespace: "team-nowhere", project: "20000000-0000-4000-8000-000000000001",
		cluster: "cluster-nowhere", machine: "machine-nowhere", uid: "20000000-0000-4000-8000-000000000002",
		held: "20000000-0000-4000-8000-000000000003", discovered: "20000000-0000-4000-8000-000000000004",
		network: "20000000-0000-4000-8000-000000000005", address: "203.0.113.251",
	}
}

// newTarget gives a tenant a cluster with a machine, and a machine by hand.
func (env *environment) newTarget(t *testing.T) *target {
	t.Helper()
	v := &target{namespace: theirs, project: simulator.ProjectB, cluster: "victims-cluster", machine: "victims-machine"}
	env.Bind(t, theirs, v.project)
	admin := env.admin(t)
	c, err := admin.MetalStackClusters(theirs).Create(soon(t), objects.Cluster(v.cluster), metav1.CreateOptions{})
	require.NoError(t, err)
	m := objects.Machine(v.machine)
	m.Labels = ofCluster(v.cluster)
	_, err = admin.MetalStackMachines(theirs).Create(soon(t), m, metav1.CreateOptions{})
	require.NoError(t, err)
	v.uid = string(c.UID)
	v.discovered, _ = env.byHand(t, v.project)
	framework.Eventually(t, limit, func(context.Context) error {
		m, err := admin.MetalStackMachines(theirs).Get(t.Context(), v.machine, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if m.Status.Allocation == nil || m.Status.Allocation.Phase != api.AllocationAllocated {
			return fmt.Errorf("%s is not allocated", v.machine)
		}
		v.held = m.Status.Allocation.MachineID
		return nil
	})
	c, err = admin.MetalStackClusters(theirs).Get(soon(t), v.cluster, metav1.GetOptions{})
	require.NoError(t, err)
	v.network, v.address = c.Status.Allocation.NetworkID, c.Status.Allocation.IPAddress
	for _, word := range v.words() {
		require.NotEmpty(t, word)
	}
	return v
}

// metalOf is everything that a project has, in words, and what became of it.
func (env *environment) metalOf(project string) (all []string) {
	b := env.sim.Inventory()
	for _, m := range b.Machines {
		if m.Project == project {
			all = append(all, fmt.Sprint("machine ", m.ID, m.AllocationUUID, m.Tags, m.IPs, m.Networks))
		}
	}
	for _, n := range b.Networks {
		if n.Project == project {
			all = append(all, fmt.Sprint("network ", n.ID, n.Labels))
		}
	}
	for _, ip := range b.IPs {
		if ip.Project == project {
			all = append(all, fmt.Sprint("address ", ip.Address, ip.AllocationUUID, ip.Tags))
		}
	}
	for _, operation := range b.History {
		if operation.Project == project {
			all = append(all, fmt.Sprint(operation.Verb, " ", operation.Kind, operation.ID, operation.AllocationUUID))
		}
	}
	return all
}
