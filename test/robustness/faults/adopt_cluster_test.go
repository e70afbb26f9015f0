// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// namingClusters are clusters that name a network or an address, which they
// adopt or are refused.
var namingClusters = []string{"c2", "c3"}

// mostNetworksByHand is how many networks, and how many addresses,
// administrators have in our project.
const mostNetworksByHand = 3

// What a cluster names.
const (
	aNetwork  = "a network"
	anAddress = "an address"
)

// Whose it is.
const (
	allocatedByHand = "one allocated by hand"
	oneOfOurs       = "one of ours"
	oneOfTheirs     = "one of another project's"
)

// nameForCluster creates a cluster that names a network or an address, or two
// at once that name the same.
func nameForCluster(d *dice) (string, func(env *environment)) {
	who, what, n := d.oneOrAll(namingClusters), pick(d, aNetwork, anAddress), d.IntN(100)
	whose := pick(d, allocatedByHand, allocatedByHand, allocatedByHand, allocatedByHand, oneOfOurs, oneOfTheirs)
	return fmt.Sprintf("%v: a cluster that names %s: %s", who, what, whose), func(env *environment) {
		all := env.nameable(what, whose)
		if len(all) == 0 {
			return
		}
		id := all[n%len(all)]
		for _, name := range who {
			background(func(env *environment) error {
				return env.createCluster(name, func(c *infrastructure.MetalStackCluster) {
					if what == aNetwork {
						c.Spec.PrivateNetworkID = id
					} else {
						c.Spec.ControlPlaneEndpoint.Host = id
					}
				})
			})(env)
		}
	}
}

// oneOrAll is one of some names, or now and then all of them.
func (d *dice) oneOrAll(names []string) []string {
	if d.IntN(3) == 0 {
		return names
	}
	return []string{pick(d, names...)}
}

// nameable are the networks, or the addresses, that are so-and-so's.
func (env *environment) nameable(what, whose string) (all []string) {
	owner := func(project string, managed bool) string {
		switch {
		case project != simulator.ProjectA:
			return oneOfTheirs
		case managed:
			return oneOfOurs
		}
		return allocatedByHand
	}
	inventory := env.sim.Inventory()
	for _, n := range inventory.Networks {
		if what == aNetwork && n.Project != "" && owner(n.Project, n.Labels[metal.TagManagementCluster] != "") == whose {
			all = append(all, n.ID)
		}
	}
	for _, ip := range inventory.IPs {
		if what == anAddress && ip.Type == metal.TypeStatic && owner(ip.Project, carries(ip.Tags, managementTag)) == whose {
			all = append(all, ip.Address)
		}
	}
	return all
}

func (env *environment) createCluster(name string, spec func(c *infrastructure.MetalStackCluster)) error {
	obj := newObject(clusters, name).(*infrastructure.MetalStackCluster)
	spec(obj)
	err := env.createObject(clusters, name, obj)
	env.note("%s names %q and %q: %v", name, obj.Spec.PrivateNetworkID, obj.Spec.ControlPlaneEndpoint.Host, err)
	return err
}

// adminAllocatesNetworks allocates a network or an address in our project.
func adminAllocatesNetworks(d *dice) (string, func(env *environment)) {
	what := pick(d, aNetwork, anAddress)
	return "an administrator allocates " + what + " in our project", func(env *environment) { env.administrators.allocateNetworks(what) }
}

func (a *administrators) allocateNetworks(what string) {
	if len(a.env.nameable(what, allocatedByHand)) >= mostNetworksByHand {
		return
	}
	var id string
	var err error
	if what == aNetwork {
		id, err = a.env.sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "by-hand", nil)
	} else {
		id, err = a.env.sim.AllocateIPFor(simulator.ProjectA, simulator.InternetNetwork, "by-hand", nil)
	}
	a.env.note("an administrator allocates the network or address %s by hand: %v", id, err)
}

// adoptsNetworks lets a network and an address be allocated by hand, and a
// cluster name both.
func (env *environment) adoptsNetworks() {
	env.administrators.allocateNetworks(aNetwork)
	env.administrators.allocateNetworks(anAddress)
	env.eventually(func() string {
		err := env.createCluster(namingClusters[0], func(c *infrastructure.MetalStackCluster) {
			c.Spec.PrivateNetworkID = env.nameable(aNetwork, allocatedByHand)[0]
			c.Spec.ControlPlaneEndpoint.Host = env.nameable(anAddress, allocatedByHand)[0]
		})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err.Error()
		}
		return ""
	})
}

// networkAdoptionPoints let a server die, lose its Lease or stand still after
// each step of a cluster that adopts, and of its release.
func networkAdoptionPoints() []point {
	return pointsAt([]string{
		"network/begun", "network/recorded", "address/begun", "address/recorded", "cluster/allocated", "cluster/releasing", "cluster/released",
	}, clusters, namingClusters[0], (*environment).adoptsNetworks)
}

// cannotAdopt is whether a cluster waits for foreign metal.
func (env *environment) cannotAdopt(c *infrastructure.MetalStackCluster, all []runtime.Object) bool {
	a := c.Status.Allocation
	if a == nil {
		a = &infrastructure.ClusterAllocation{}
	}
	othersHave := func(id string) bool {
		return slices.ContainsFunc(all, func(obj runtime.Object) bool {
			other, ok := obj.(*infrastructure.MetalStackCluster)
			return ok && other.Name != c.Name && other.Status.Allocation != nil &&
				(other.Status.Allocation.NetworkID == id || other.Status.Allocation.IPAddress == id)
		})
	}
	for what, named := range map[string]string{aNetwork: c.Spec.PrivateNetworkID, anAddress: c.Spec.ControlPlaneEndpoint.Host} {
		if what == anAddress && !c.Spec.AllocatesEndpoint() {
			continue
		}
		if named == "" || named == a.NetworkID || named == a.IPAddress {
			continue
		}
		if !slices.Contains(env.nameable(what, allocatedByHand), named) || othersHave(named) {
			return true
		}
	}
	return false
}
