// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// us is the technical user whose key the servers have.
const us = "Metal-Edit"

// invariants are what holds of every history, from its beginning to its end.
var invariants = map[string]func(env *environment) []string{
	"no two for one uid":           noTwoForOneUID,
	"foreign metal is untouched":   foreignMetalIsUntouched,
	"only released metal is freed": onlyReleasedMetalIsFreed,
	"addresses stay":               addressesStayWithTheirMachines,
	"acknowledged writes persist":  acknowledgedWritesPersist,
	"watchers agree":               watchersAgree,
	"no secret leaves":             noSecretLeaves,
	"no half-freed network":        noHalfFreedNetwork,
}

// ownership is whose a piece of metal is, by the simulator's inventory.
type ownership struct {
	by, allocation string
	uid            types.UID
	// duplicate: administrators made it look like an object's of ours.
	duplicate bool
}

// uidIn is the uid that metal carries, "" if it carries none.
func uidIn(tags []string, labels map[string]string) types.UID {
	if uid, ok := metal.TagValue(tags, metal.TagUID); ok {
		return types.UID(uid)
	}
	return types.UID(labels[metal.TagUID])
}

// replay goes through the history of the inventory, and passes with each operation whose
// its object was before.
func replay(b simulator.Inventory, each func(d simulator.Operation, was ownership, held map[string]ownership)) {
	held := map[string]ownership{}
	for _, d := range b.History {
		each(d, held[d.ID], held)
		switch d.Verb {
		case "allocate":
			held[d.ID] = ownership{
				by: d.By, allocation: d.AllocationUUID, uid: uidIn(d.Tags, d.Labels), duplicate: isDuplicate(d.By, d.Project, d.Tags),
			}
		case "free":
			delete(held, d.ID)
		}
	}
}

// At no time are there two machines, two networks or two addresses for one uid.
func noTwoForOneUID(env *environment) (wrong []string) {
	kinds := map[string]string{}
	replay(env.sim.Inventory(), func(d simulator.Operation, _ ownership, held map[string]ownership) {
		uid := uidIn(d.Tags, d.Labels)
		if d.Verb != "allocate" || d.By != us || uid == "" {
			return
		}
		kinds[d.ID] = d.Kind
		for id, other := range held {
			if id != d.ID && other.by == us && other.uid == uid && kinds[id] == d.Kind {
				wrong = append(wrong, fmt.Sprintf("%s %s was allocated for %s, which had %s", d.Kind, d.ID, uid, id))
			}
		}
	})
	return wrong
}

// No machine, network or address that was not ours at that moment was ever freed
// or changed: neither foreign nor unallocated, which would take a machine
// out of the pool.
func foreignMetalIsUntouched(env *environment) (wrong []string) {
	replay(env.sim.Inventory(), func(d simulator.Operation, was ownership, _ map[string]ownership) {
		switch {
		case d.By != us || d.Verb == "allocate":
		case d.Verb == "update" && d.Kind == "ip" && was.by == us: // the tag of a Service is removed
		case d.Verb != "free":
			wrong = append(wrong, fmt.Sprintf("%s %s was changed", d.Kind, d.ID))
		case was.by == "":
			wrong = append(wrong, fmt.Sprintf("%s %s was freed, and was not allocated", d.Kind, d.ID))
		case (was.duplicate || env.journal.adoptedBefore(was.allocation, d)) && was.allocation == d.AllocationUUID:
		case was.by != us || was.allocation != d.AllocationUUID:
			wrong = append(wrong, fmt.Sprintf("%s %s was freed in the allocation %s, which was made by %s", d.Kind, d.ID, d.AllocationUUID, was.by))
		}
	})
	return wrong
}

// Nothing is freed that an object holds of which no client asked for the
// deletion, unless it is one too many.
func onlyReleasedMetalIsFreed(env *environment) (wrong []string) {
	replay(env.sim.Inventory(), func(d simulator.Operation, was ownership, held map[string]ownership) {
		uid := env.journal.holderOf(was, d)
		if d.Verb != "free" || d.By != us || uid == "" || env.journal.mayGo(uid, d.Time) {
			return
		}
		if was.duplicate && !env.journal.adoptedBefore(was.allocation, d) {
			return
		}
		for id, other := range held {
			if id != d.ID && other.uid == uid {
				return
			}
		}
		wrong = append(wrong, fmt.Sprintf("%s %s of %s was freed, and its deletion was not requested", d.Kind, d.ID, uid))
	})
	return wrong
}

// The addresses of a machine of ours are taken, by it alone: a failed
// allocation cost no other one its addresses.
func addressesStayWithTheirMachines(env *environment) (wrong []string) {
	inventory := env.sim.Inventory()
	taken := map[string]bool{}
	for _, ip := range inventory.IPs {
		taken[ip.Address] = ip.Taken
	}
	for _, m := range env.ours() {
		for _, address := range m.IPs {
			if !taken[address] {
				wrong = append(wrong, fmt.Sprintf("the address %s of machine %s was taken away", address, m.ID))
			}
		}
	}
	return wrong
}

// No network is freed by halves, which breaks every list that shows it.
func noHalfFreedNetwork(env *environment) (wrong []string) {
	for _, n := range env.sim.Inventory().Networks {
		if n.HalfFreed {
			wrong = append(wrong, "network "+n.ID+" was freed by halves")
		}
	}
	return wrong
}

// Every acknowledged write is there, no revision was used twice or went
// backwards, and no object vanished from a list and came back: see journal.
func acknowledgedWritesPersist(env *environment) []string { return env.journal.complaints() }

// Every watcher that resumed saw the same history as all others: what one of
// them saw, each saw whose watch covers that revision.
func watchersAgree(env *environment) (wrong []string) {
	for _, f := range env.watchers {
		for _, other := range env.watchers {
			if f != other && f.resource == other.resource {
				wrong = append(wrong, f.unseen(other)...)
			}
		}
	}
	return wrong
}

// unseen is what a watcher should have seen that another one saw.
func (w *watcher) unseen(other *watcher) (wrong []string) {
	other.mu.Lock()
	theirs := slices.Clone(other.spans)
	other.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range theirs {
		for revision, what := range s.events {
			for _, mine := range w.spans {
				if mine.after < revision && revision <= mine.until && mine.events[revision] != what {
					wrong = append(wrong, fmt.Sprintf("a watcher of %s saw %q where another one saw %q", w.resource, mine.events[revision], what))
				}
			}
		}
	}
	return wrong
}

// No secret is in any line of the log, record, event or error.
func noSecretLeaves(env *environment) []string {
	return append(env.secrets.complaints(), everySecret.complaints()...)
}
