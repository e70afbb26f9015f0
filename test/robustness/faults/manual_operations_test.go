// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"slices"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// administrators use metalctl, with an administrator's rights, and do not ask us.
type administrators struct {
	env *environment
	// network is a network of their project.
	network string
	// own is a network of our project, in which they allocate by hand.
	own string
	// tags are what they took off machines of ours, by allocation.
	tags map[string][]string
}

// ours are the machines that carry the identity of this management cluster,
// and are in its project.
func (env *environment) ours() (held []simulator.MachineState) {
	for _, m := range env.sim.Inventory().Machines {
		if m.Allocated && m.Project == simulator.ProjectA && carries(m.Tags, managementTag) {
			held = append(held, m)
		}
	}
	return held
}

func carries(tags []string, tag string) bool { return slices.Contains(tags, tag) }

// any returns one of them by a number.
func (a *administrators) any(n int) (simulator.MachineState, bool) {
	held := a.env.ours()
	if len(held) == 0 {
		return simulator.MachineState{}, false
	}
	return held[n%len(held)], true
}

// free frees a machine of ours, unless the metal-api is freeing it for us: that
// call frees once more whatever the machine is by then, which no protocol can
// help (docs/allocation.md).
func (a *administrators) free(n int) {
	if m, ok := a.any(n); ok && !a.env.api.freeing(m.ID) {
		a.env.note("an administrator frees %s: %v", m.ID, a.env.sim.ForceFree(m.ID))
	}
}

// tag adds a tag to a machine of ours.
func (a *administrators) tag(n int) {
	if m, ok := a.any(n); ok {
		a.env.note("an administrator tags %s: %v", m.ID, a.env.sim.SetTags(m.ID, append(m.Tags, "color=blue")))
	}
}

// untag takes our tags off a machine of ours.
func (a *administrators) untag(n int) {
	if m, ok := a.any(n); ok {
		a.tags[m.AllocationUUID] = m.Tags
		a.env.note("an administrator takes the tags off %s: %v", m.ID, a.env.sim.SetTags(m.ID, []string{"mine=yes"}))
	}
}

// lock locks a machine of ours.
func (a *administrators) lock(n int) {
	if m, ok := a.any(n); ok {
		a.env.note("an administrator locks %s: %v", m.ID, a.env.sim.Lock(m.ID, "hands off"))
	}
}

// take allocates a waiting machine, rather one that was ours a moment ago.
func (a *administrators) take(tags ...string) {
	inventory := a.env.sim.Inventory()
	var free []string
	for _, m := range inventory.Machines {
		if m.Waiting && !m.Allocated && m.Size == simulator.SmallSize {
			free = append(free, m.ID)
		}
	}
	if len(free) == 0 {
		return
	}
	id := free[0]
	for _, d := range slices.Backward(inventory.History) {
		if slices.Contains(free, d.ID) && d.Verb == "free" {
			id = d.ID
			break
		}
	}
	_, err := a.env.sim.AllocateFor(simulator.AllocateRequest{
		Project: simulator.ProjectB, Name: "theirs", ID: id, Networks: []string{a.network}, Tags: tags,
	})
	a.env.note("another project takes %s: %v", id, err)
}

// copyTags allocates a machine in another project with the tags of an object
// of ours.
func (a *administrators) copyTags(n int) {
	if m, ok := a.any(n); ok {
		a.take(withoutMachine(m.Tags)...)
	}
}

// duplicate allocates a machine in our project with the tags of an object of
// ours: it is one too many, and ours to free.
func (a *administrators) duplicate(n int) {
	held := slices.DeleteFunc(a.env.ours(), func(m simulator.MachineState) bool { return m.Role != metal.RoleMachine })
	if len(held) > 0 {
		a.allocate(withoutMachine(held[n%len(held)].Tags)...)
	}
}

// isDuplicate is whether administrators gave a machine in our project the tags
// of an object of ours.
func isDuplicate(by, project string, tags []string) bool {
	return by != us && project == simulator.ProjectA && carries(tags, managementTag)
}

// withoutMachine are a machine's tags but its own.
func withoutMachine(tags []string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(tag string) bool {
		_, isMachine := metal.TagValue([]string{tag}, metal.TagMachine)
		return isMachine
	})
}

// undo undoes what holds our releases up, and gives all of theirs back.
func (a *administrators) undo() {
	for _, m := range a.env.sim.Inventory().Machines {
		if m.State != "" {
			_ = a.env.sim.Unlock(m.ID)
		}
		if tags := a.tags[m.AllocationUUID]; m.Allocated && tags != nil {
			_ = a.env.sim.SetTags(m.ID, tags)
		}
		if m.Allocated && m.Project == simulator.ProjectB {
			_ = a.env.sim.ForceFree(m.ID)
		}
	}
}
