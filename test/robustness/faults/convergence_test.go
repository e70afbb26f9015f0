// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

const (
	// convergenceTimeout is how long it may take until nothing is left to do: an
	// open call, the longest pause after refusals, and duplicates.
	convergenceTimeout  = 45 * time.Minute
	convergenceInterval = 5 * time.Second
)

// stopFaults ends all that goes wrong by chance or on purpose.
func (env *environment) stopFaults() {
	env.mu.Lock()
	env.faultsStopped = true
	for _, remove := range env.faults {
		remove()
	}
	env.mu.Unlock()
	env.traps.clear()
	env.records.clearFaults()
	env.lease.clearFaults()
	env.administrators.undo()
	env.note("nothing goes wrong from here on")
}

func (env *environment) areFaultsStopped() bool {
	env.mu.Lock()
	defer env.mu.Unlock()
	return env.faultsStopped
}

// eventually waits until so says nothing, and complains if that takes too long:
// nothing ever gets stuck.
func (env *environment) eventually(so func() string) {
	began := time.Now()
	for {
		reason := so()
		if reason == "" {
			env.note("converged")
			return
		}
		if time.Since(began) > env.setup.convergence {
			env.journal.complain("stuck for %v: %s", env.setup.convergence, reason)
			return
		}
		time.Sleep(convergenceInterval)
	}
}

// objects are all that have a record.
func (env *environment) objects() ([]runtime.Object, error) {
	var all []runtime.Object
	for _, resource := range resources {
		list, err := env.list(resource, "0")
		if err != nil {
			return nil, err
		}
		_ = meta.EachListItem(list, func(item runtime.Object) error {
			if managed(item) {
				all = append(all, item)
			}
			return nil
		})
	}
	return all, nil
}

// said is what the condition Allocated says.
func said(obj runtime.Object) string {
	var conditions []metav1.Condition
	switch o := obj.(type) {
	case *infrastructure.MetalStackMachine:
		conditions = o.Status.Conditions
	case *infrastructure.MetalStackFirewall:
		conditions = o.Status.Conditions
	case *infrastructure.MetalStackCluster:
		conditions = o.Status.Conditions
	}
	if c := meta.FindStatusCondition(conditions, infrastructure.ConditionAllocated); c != nil {
		return c.Message
	}
	return "its allocation was not requested"
}

// completeClusters creates the clusters that are missing, without which their
// machines wait.
func (env *environment) completeClusters(all []runtime.Object) {
	there := map[string]bool{}
	for _, obj := range all {
		there[obj.(metav1.Object).GetName()] = true
	}
	for _, name := range names[clusters] {
		if !there[name] {
			_ = env.create(clusters, name)
		}
	}
}

// everythingIsAllocated: every object that is there holds its metal, every
// metal of ours belongs to exactly one of them, and watchers know that.
func (env *environment) everythingIsAllocated() string {
	all, err := env.objects()
	if err != nil {
		return err.Error()
	}
	env.completeClusters(all)
	env.giveUpNaming(all)
	for _, obj := range all {
		m, state := obj.(metav1.Object), stateOf(obj)
		if m.GetDeletionTimestamp() != nil || state.Phase != infrastructure.AllocationAllocated {
			return fmt.Sprintf("%s is %q, and deleted: %v: %s", m.GetName(), state.Phase, m.GetDeletionTimestamp() != nil, said(obj))
		}
	}
	if reason := env.belongsToOne(all); reason != "" {
		return reason
	}
	return env.watchersMatchLists()
}

// nothingIsLeft: no object, and no metal of ours.
func (env *environment) nothingIsLeft() string {
	all, err := env.objects()
	switch {
	case err != nil:
		return err.Error()
	case len(all) > 0:
		return fmt.Sprintf("%d objects are left, the first is %s, which is %q", len(all), all[0].(metav1.Object).GetName(), stateOf(all[0]).Phase)
	}
	if reason := env.belongsToOne(nil); reason != "" {
		return reason
	}
	if reason := env.serviceTagLeft(); reason != "" {
		return reason
	}
	return env.watchersMatchLists()
}

func (env *environment) watchersMatchLists() string {
	for _, f := range env.watchers {
		list, err := env.list(f.resource, "0")
		if err != nil {
			return err.Error()
		}
		if difference := f.differs(list); difference != "" {
			return difference
		}
	}
	return ""
}

// belongsToOne returns the first allocation made for us that does not belong
// to exactly one record, and of the first record whose metal is unknown.
func (env *environment) belongsToOne(all []runtime.Object) string {
	named := map[string]int{}
	for _, obj := range all {
		if c, ok := obj.(*infrastructure.MetalStackCluster); ok {
			named[c.Status.Allocation.NetworkID]++
			if c.Status.Allocation.IPAddress != "" {
				named[c.Status.Allocation.IPAddress]++
			}
			continue
		}
		_, allocation := metalOf(obj)
		named[allocation]++
	}
	for _, m := range env.sim.Inventory().Machines {
		uid := uidIn(m.Tags, nil)
		is := func(obj runtime.Object) bool { return stateOf(obj).UID == uid }
		if byHand(m) && uid != "" && named[m.AllocationUUID] == 0 && slices.ContainsFunc(all, is) {
			return fmt.Sprintf("machine %s carries the identity of an object that has another one, and was not freed", m.ID)
		}
	}
	for what, name := range env.held() {
		if named[name] != 1 {
			return fmt.Sprintf("%s is named by %d records", what, named[name])
		}
		delete(named, name)
	}
	for _, m := range env.sim.Inventory().Machines {
		if m.Allocated && named[m.AllocationUUID] > 0 {
			// Adopted: it does not carry our tags.
			if named[m.AllocationUUID] > 1 || m.Project != simulator.ProjectA {
				return fmt.Sprintf("machine %s of project %s is named by %d records", m.ID, m.Project, named[m.AllocationUUID])
			}
			delete(named, m.AllocationUUID)
		}
	}
	for _, id := range slices.Concat(env.nameable(aNetwork, allocatedByHand), env.nameable(anAddress, allocatedByHand)) {
		if named[id] > 1 {
			return fmt.Sprintf("the network or address %s, which was allocated by hand, is named by %d records", id, named[id])
		}
		delete(named, id)
	}
	freed := map[string]bool{}
	for _, d := range env.sim.Inventory().History {
		if d.Verb == "free" && d.By != us {
			freed[d.AllocationUUID] = true
		}
	}
	for name := range named {
		if !freed[name] {
			return name + " is recorded, and is not there, and no other client freed it"
		}
	}
	return ""
}

// held are the machines, networks and addresses that were allocated for us, by
// what records call them.
func (env *environment) held() map[string]string {
	held := map[string]string{}
	for _, m := range env.ours() {
		if !byHand(m) {
			held["machine "+m.ID] = m.AllocationUUID
		}
	}
	inventory := env.sim.Inventory()
	for _, n := range inventory.Networks {
		if n.Labels[metal.TagManagementCluster] == managementCluster && n.Project == simulator.ProjectA {
			held["network "+n.ID] = n.ID
		}
	}
	for _, ip := range inventory.IPs {
		if carries(ip.Tags, managementTag) && ip.Project == simulator.ProjectA {
			held["address "+ip.Address] = ip.Address
		}
	}
	return held
}
