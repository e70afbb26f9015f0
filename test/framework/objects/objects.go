// SPDX-License-Identifier: Apache-2.0

// Package objects builds the objects that tests create: with what is required,
// and of the simulator's default data centre.
package objects

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// Cluster is a cluster in the default partition.
func Cluster(name string, changes ...func(*v1alpha4.MetalStackCluster)) *v1alpha4.MetalStackCluster {
	return changed(&v1alpha4.MetalStackCluster{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha4.MetalStackClusterSpec{Partition: simulator.DefaultPartition, PublicNetworkID: simulator.InternetNetwork},
	}, changes)
}

// Machine is a machine whose partition is its cluster's.
func Machine(name string, changes ...func(*v1alpha4.MetalStackMachine)) *v1alpha4.MetalStackMachine {
	return changed(&v1alpha4.MetalStackMachine{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha4.MetalStackMachineSpec{Image: simulator.MachineImage, MachineType: simulator.SmallSize},
	}, changes)
}

// Firewall is a firewall whose networks are its cluster's.
func Firewall(name string, changes ...func(*v1alpha4.MetalStackFirewall)) *v1alpha4.MetalStackFirewall {
	return changed(&v1alpha4.MetalStackFirewall{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha4.MetalStackFirewallSpec{Image: simulator.FirewallImage, MachineType: simulator.SmallSize},
	}, changes)
}

// MachineTemplate is a template, which no controller of ours acts on.
func MachineTemplate(name string, changes ...func(*v1alpha4.MetalStackMachineTemplate)) *v1alpha4.MetalStackMachineTemplate {
	return changed(&v1alpha4.MetalStackMachineTemplate{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha4.MetalStackMachineTemplateSpec{Template: v1alpha4.MetalStackMachineTemplateResource{
			Spec: v1alpha4.MetalStackMachineSpec{Image: simulator.MachineImage, MachineType: simulator.SmallSize},
		}},
	}, changes)
}

// InDefaultPartition says in which partition a machine is to be, which it needs
// only without a cluster.
func InDefaultPartition(m *v1alpha4.MetalStackMachine) { m.Spec.Partition = simulator.DefaultPartition }

// OfCluster labels a machine as one of a cluster.
func OfCluster(name string) func(*v1alpha4.MetalStackMachine) {
	return func(m *v1alpha4.MetalStackMachine) {
		metav1.SetMetaDataLabel(&m.ObjectMeta, infrastructure.ClusterNameLabel, name)
	}
}

func changed[T any](object *T, changes []func(*T)) *T {
	for _, change := range changes {
		change(object)
	}
	return object
}
