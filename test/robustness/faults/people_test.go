// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"slices"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// people use metalctl, with an administrator's rights, and do not ask us.
type people struct {
	w *environment
	// network is a network of their project.
	network string
	// own is a network of our project, in which they allocate by hand.
	own string
	// tags are what they took off machines of ours, by allocation.
	tags map[string][]string
}

// ours are the machines that carry the identity of this management cluster,
// and are in its project.
func (env *environment) ours() (held []simulator.MachineAccount) {
	for _, m := range env.sim.Books().Machines {
		if m.Allocated && m.Project == simulator.ProjectA && carries(m.Tags, managementTag) {
			held = append(held, m)
		}
	}
	return held
}

func carries(tags []string, tag string) bool { return slices.Contains(tags, tag) }

// any returns one of them by a number.
func (p *people) any(n int) (simulator.MachineAccount, bool) {
	held := p.w.ours()
	if len(held) == 0 {
		return simulator.MachineAccount{}, false
	}
	return held[n%len(held)], true
}

// free frees a machine of ours, unless the metal-api is freeing it for us: that
// call frees once more whatever the machine is by then, which no protocol can
// help (docs/allocation.md).
func (p *people) free(n int) {
	if m, ok := p.any(n); ok && !p.w.api.freeing(m.ID) {
		p.w.note("somebody frees %s: %v", m.ID, p.w.sim.ForceFree(m.ID))
	}
}

// tag adds a tag to a machine of ours.
func (p *people) tag(n int) {
	if m, ok := p.any(n); ok {
		p.w.note("somebody tags %s: %v", m.ID, p.w.sim.SetTags(m.ID, append(m.Tags, "color=blue")))
	}
}

// untag takes our tags off a machine of ours.
func (p *people) untag(n int) {
	if m, ok := p.any(n); ok {
		p.tags[m.AllocationUUID] = m.Tags
		p.w.note("somebody takes the tags off %s: %v", m.ID, p.w.sim.SetTags(m.ID, []string{"mine=yes"}))
	}
}

// lock locks a machine of ours.
func (p *people) lock(n int) {
	if m, ok := p.any(n); ok {
		p.w.note("somebody locks %s: %v", m.ID, p.w.sim.Lock(m.ID, "hands off"))
	}
}

// take allocates a waiting machine, rather one that was ours a moment ago.
func (p *people) take(tags ...string) {
	books := p.w.sim.Books()
	var free []string
	for _, m := range books.Machines {
		if m.Waiting && !m.Allocated && m.Size == simulator.SmallSize {
			free = append(free, m.ID)
		}
	}
	if len(free) == 0 {
		return
	}
	id := free[0]
	for _, d := range slices.Backward(books.History) {
		if slices.Contains(free, d.ID) && d.Verb == "free" {
			id = d.ID
			break
		}
	}
	_, err := p.w.sim.AllocateFor(simulator.AllocateRequest{
		Project: simulator.ProjectB, Name: "theirs", ID: id, Networks: []string{p.network}, Tags: tags,
	})
	p.w.note("another project takes %s: %v", id, err)
}

// pose allocates a machine in another project with the tags of an object of ours.
func (p *people) pose(n int) {
	if m, ok := p.any(n); ok {
		p.take(withoutMachine(m.Tags)...)
	}
}

// twin allocates a machine in our project with the tags of an object of ours:
// it is one too many, and ours to free.
func (p *people) twin(n int) {
	held := slices.DeleteFunc(p.w.ours(), func(m simulator.MachineAccount) bool { return m.Role != metal.RoleMachine })
	if len(held) > 0 {
		p.hold(withoutMachine(held[n%len(held)].Tags)...)
	}
}

// isTwin is whether people gave a machine in our project the tags of an object
// of ours.
func isTwin(by, project string, tags []string) bool {
	return by != us && project == simulator.ProjectA && carries(tags, managementTag)
}

// withoutMachine are a machine's tags but its own.
func withoutMachine(tags []string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(tag string) bool {
		_, isMachine := metal.TagValue([]string{tag}, metal.TagMachine)
		return isMachine
	})
}

// makeGood undoes what holds our releases up, and gives all of theirs back.
func (p *people) makeGood() {
	for _, m := range p.w.sim.Books().Machines {
		if m.State != "" {
			_ = p.w.sim.Unlock(m.ID)
		}
		if tags := p.tags[m.AllocationUUID]; m.Allocated && tags != nil {
			_ = p.w.sim.SetTags(m.ID, tags)
		}
		if m.Allocated && m.Project == simulator.ProjectB {
			_ = p.w.sim.ForceFree(m.ID)
		}
	}
}
