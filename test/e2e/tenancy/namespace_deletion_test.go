// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

func deletedNamespaceReleasesItsMetal(t *testing.T, env *environment) {
	const ns = "leaving"
	found, itsNetwork := env.byHand(t, project("e"))
	env.Bind(t, ns, project("e"))
	admin := env.admin(t)
	_, err := admin.MetalStackClusters(ns).Create(soon(t), objects.Cluster("c"), metav1.CreateOptions{})
	require.NoError(t, err)
	fw := objects.Firewall("fw")
	fw.Labels = ofCluster("c")
	_, err = admin.MetalStackFirewalls(ns).Create(soon(t), fw, metav1.CreateOptions{})
	require.NoError(t, err)
	for _, name := range []string{"node-1", "node-2"} {
		m := objects.Machine(name)
		m.Labels = ofCluster("c")
		_, err = admin.MetalStackMachines(ns).Create(soon(t), m, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	template := &api.MetalStackMachineTemplate{ObjectMeta: metav1.ObjectMeta{Name: "t"}}
	template.Spec.Template.Spec = objects.Machine("").Spec
	_, err = admin.MetalStackMachineTemplates(ns).Create(soon(t), template, metav1.CreateOptions{})
	require.NoError(t, err)
	framework.Eventually(t, limit, func(context.Context) error { return env.holds(project("e"), 4, 2) })
	env.shows(t, ns, found, "node-1", "node-2")
	discovered, err := admin.MetalStackNetworks(ns).Get(soon(t), itsNetwork, metav1.GetOptions{})
	require.NoError(t, err)
	assert.False(t, discovered.Status.Managed)

	require.NoError(t, env.Client().CoreV1().Namespaces().Delete(soon(t), ns, metav1.DeleteOptions{}))
	framework.Eventually(t, limit, func(context.Context) error {
		switch _, err := admin.MetalStackMachines(ns).Create(t.Context(), objects.Machine("late"), metav1.CreateOptions{}); {
		case err == nil:
			return errors.New("something was created in a namespace that goes")
		case !terminating(err):
			return err
		}
		return nil
	})
	framework.Eventually(t, limit, func(context.Context) error {
		_, err := env.Client().CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("the namespace is still there: %v", err)
	})

	require.NoError(t, env.holds(project("e"), 1, 1), "what was discovered is all that is left")
	account, known := env.sim.Inventory().Machine(found)
	require.True(t, known)
	assert.Equal(t, []string{itsNetwork}, account.Networks)
	for _, operation := range env.sim.Inventory().History {
		assert.False(t, operation.Verb == "free" && operation.ID == found, "what was discovered was freed in between")
	}
	for _, ip := range env.sim.Inventory().IPs {
		assert.False(t, ip.Project == project("e") && ip.Network == simulator.InternetNetwork, "address %s is kept", ip.Address)
	}
}

// holds reports whether a project holds so many machines and networks.
func (env *environment) holds(project string, machines, networks int) error {
	b := env.sim.Inventory()
	for _, m := range b.Machines {
		if m.Allocated && m.Project == project {
			machines--
		}
	}
	for _, n := range b.Networks {
		if n.Project == project {
			networks--
		}
	}
	if machines != 0 || networks != 0 {
		return fmt.Errorf("project %s lacks %d machines and %d networks", project, machines, networks)
	}
	return nil
}
