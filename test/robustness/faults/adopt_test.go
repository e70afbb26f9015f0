// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// naming are objects that name a machine, which they get, adopt or are refused.
var naming = []string{"a0-0", "a1-0"}

// mostByHand is how many machines administrators allocate in our project.
const mostByHand = 3

// whoseMachine is which machines an object names.
var whoseMachine = map[string]func(m simulator.MachineState) bool{
	"unallocated": func(m simulator.MachineState) bool {
		return m.Waiting && !m.Allocated && m.Size == simulator.SmallSize
	},
	allocatedByHand: byHand,
	oneOfOurs:       func(m simulator.MachineState) bool { return m.Allocated && carries(m.Tags, managementTag) },
	oneOfTheirs:     func(m simulator.MachineState) bool { return m.Allocated && m.Project == simulator.ProjectB },
}

// byHand is whether administrators allocated a machine in our project.
func byHand(m simulator.MachineState) bool {
	return m.Allocated && m.Project == simulator.ProjectA && m.Name == "by-hand"
}

// nameSomething creates an object that names a machine, or two at once that
// name the same.
func nameSomething(d *dice) (string, func(env *environment)) {
	who, n := d.oneOrAll(naming), d.IntN(100)
	whose := pick(d, "unallocated", allocatedByHand, allocatedByHand, allocatedByHand, oneOfOurs, oneOfTheirs)
	return fmt.Sprintf("%v: a machine that names one of metal's: %s", who, whose), func(env *environment) {
		all := env.machinesThat(whoseMachine[whose])
		if len(all) == 0 {
			all = env.machinesThat(whoseMachine["unallocated"])
		}
		if len(all) == 0 {
			return
		}
		for _, name := range who {
			background(func(env *environment) error { return env.createNaming(name, all[n%len(all)]) })(env)
		}
	}
}

func (env *environment) machinesThat(so func(m simulator.MachineState) bool) (ids []string) {
	for _, m := range env.sim.Inventory().Machines {
		if so(m) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

func (env *environment) createNaming(name, id string) error {
	obj := newObject(machines, name).(*infrastructure.MetalStackMachine)
	obj.Spec.ProviderID = providerid.New(simulator.DefaultPartition, id)
	err := env.createObject(machines, name, obj)
	env.note("%s names %s: %v", name, id, err)
	return err
}

// adminAllocates allocates a machine in our project, with metalctl.
func adminAllocates(*dice) (string, func(env *environment)) {
	return "an administrator allocates a machine in our project", func(env *environment) { env.administrators.allocate() }
}

func (a *administrators) allocate(tags ...string) {
	if len(a.env.machinesThat(byHand)) >= mostByHand {
		return
	}
	id, err := a.env.sim.AllocateFor(simulator.AllocateRequest{
		Project: simulator.ProjectA, Name: "by-hand", Size: simulator.SmallSize, Partition: simulator.DefaultPartition, Networks: []string{a.own}, Tags: tags,
	})
	a.env.note("an administrator allocates %s by hand, with the tags %v: %v", id, tags, err)
}

// adopts lets a machine be allocated by hand, and an object name it.
func (env *environment) adopts() {
	env.administrators.allocate()
	env.eventually(func() string {
		if err := env.createNaming(naming[0], env.machinesThat(byHand)[0]); err != nil && !apierrors.IsAlreadyExists(err) {
			return err.Error()
		}
		return ""
	})
}

// adoptionPoints let a server die, lose its Lease or stand still after each step
// of an adoption, and of the release of what was adopted.
func adoptionPoints() []point {
	return pointsAt([]string{
		"machine/begun", "machine/answered", "machine/allocated",
		"machine/releasing", "machine/free-begun", "machine/free-observed", "machine/freed", "machine/released",
	}, machines, naming[0], (*environment).adopts)
}

// duplicatePoints let an object name a machine that is one too many of another
// object's, while the metal-api frees it.
func duplicatePoints() (points []point) {
	for words, fault := range map[string]simulator.Fault{
		"for long":                          {Kind: simulator.FaultLatency, Latency: 40 * time.Second},
		"after its caller gave up":          {Kind: simulator.FaultCommitThenLate, Latency: 2*time.Minute + 25*time.Second},
		"and answers late":                  {Kind: simulator.FaultLateAnswer, Latency: 20 * time.Second},
		"for a server that loses the Lease": {Kind: simulator.FaultLatency, Latency: 20 * time.Second},
	} {
		points = append(points, point{name: "a duplicate is named while it is freed " + words, when: between, prepare: func(env *environment) func() bool {
			env.administrators.duplicate(0)
			duplicate := env.machinesThat(byHand)[0]
			fault.Endpoint, fault.Times = "machine-free", 1
			// It lasts longer than others' faults: the Recoverer waits before it frees.
			env.sim.Inject(fault)
			env.eventually(func() string {
				if !env.api.freeing(duplicate) {
					return "the duplicate is not being freed"
				}
				return ""
			})
			inTime := false
			env.eventually(func() string {
				err := env.createNaming(naming[0], duplicate)
				inTime = inTime || (err == nil && env.api.freeing(duplicate))
				if err != nil && !apierrors.IsAlreadyExists(err) {
					return err.Error()
				}
				return ""
			})
			if strings.Contains(words, "Lease") {
				env.lease.cutOff(env.lease.heldBy(), 2*leaseDuration)
			}
			return func() bool { return inTime }
		}})
	}
	return points
}

// pointsAt are all traps at steps of an object's adoption and of its release.
func pointsAt(steps []string, resource, name string, adopts func(env *environment)) (points []point) {
	for _, step := range steps {
		for _, do := range []string{trapKill, trapCut, trapStop} {
			points = append(points, point{name: do + " at " + step, when: between, prepare: func(env *environment) func() bool {
				comesToIt := func() { adopts(env) }
				if released(step) {
					adopts(env)
					env.eventually(env.everythingIsAllocated)
					comesToIt = func() { env.eventually(func() string { return env.removed(resource, name) }) }
				}
				env.traps.add(trap{step: step, do: do})
				comesToIt()
				return func() bool { return env.traps.has(step) }
			}})
		}
	}
	return points
}

// giveUpNaming deletes objects that wait for metal that is foreign.
func (env *environment) giveUpNaming(all []runtime.Object) {
	for _, obj := range all {
		if c, ok := obj.(*infrastructure.MetalStackCluster); ok {
			if c.DeletionTimestamp == nil && stateOf(c).Phase != infrastructure.AllocationAllocated && env.cannotAdopt(c, all) {
				_ = env.remove(clusters, c.Name, c.UID)
			}
			continue
		}
		m, ok := obj.(*infrastructure.MetalStackMachine)
		if !ok || m.DeletionTimestamp != nil || m.Spec.ProviderID == "" || stateOf(m).Phase == infrastructure.AllocationAllocated {
			continue
		}
		id, err := providerid.Parse(m.Spec.ProviderID)
		if err != nil {
			continue
		}
		if account, ok := env.sim.Inventory().Machine(id.MachineID); ok && isForeign(account, all) {
			_ = env.remove(machines, m.Name, m.UID)
		}
	}
}

// isForeign is whether a machine cannot be adopted: a record stands for
// it, also for one whose allocation has ended.
func isForeign(account simulator.MachineState, all []runtime.Object) bool {
	if account.Allocated && (account.Project != simulator.ProjectA || account.Role != metal.RoleMachine) {
		return true
	}
	return slices.ContainsFunc(all, func(obj runtime.Object) bool {
		id, allocation := metalOf(obj)
		return id == account.ID && (!account.Allocated || allocation == account.AllocationUUID)
	})
}

// metalOf is the machine that a record names, and its allocation.
func metalOf(obj runtime.Object) (id, allocation string) {
	switch o := obj.(type) {
	case *infrastructure.MetalStackMachine:
		if a := o.Status.Allocation; a != nil {
			return a.MachineID, a.AllocationUUID
		}
	case *infrastructure.MetalStackFirewall:
		if a := o.Status.Allocation; a != nil {
			return a.MachineID, a.AllocationUUID
		}
	}
	return "", ""
}

// adoption is which object holds an allocation that it did not ask for.
type adoption struct {
	uid types.UID
	at  time.Time
}

// recorded takes in a record as it was written.
func (j *journal) recorded(value []byte) {
	var record struct {
		Object struct {
			Metadata struct{ UID types.UID }
			Status   struct {
				Allocation infrastructure.MachineAllocation
			}
		}
	}
	if json.Unmarshal(value, &record) != nil || !record.Object.Status.Allocation.Adopted {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	allocation := record.Object.Status.Allocation.AllocationUUID
	if _, known := j.adopted[allocation]; !known {
		j.adopted[allocation] = adoption{record.Object.Metadata.UID, time.Now()}
	}
}

// adoptedBefore is whether an object had adopted an allocation by an operation.
func (j *journal) adoptedBefore(allocation string, d simulator.Operation) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	a, adopted := j.adopted[allocation]
	return adopted && a.at.Before(d.Time)
}

// holderOf is the object that metal is freed of: the one that adopted it, or
// whose uid it carries.
func (j *journal) holderOf(was ownership, d simulator.Operation) types.UID {
	j.mu.Lock()
	defer j.mu.Unlock()
	if a, adopted := j.adopted[was.allocation]; adopted && (was.uid == "" || a.at.Before(d.Time)) {
		return a.uid
	}
	return was.uid
}
