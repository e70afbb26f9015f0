// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"fmt"
	"strings"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// What goes wrong on our side of the metal-api, and who else is at work.

func ledgerFails(d *dice) (string, func(env *environment)) {
	if d.IntN(4) == 0 {
		away := time.Duration(1+d.IntN(40)) * time.Second
		return fmt.Sprintf("the ledger is away for %v", away), func(env *environment) {
			env.records.goAway(true)
			time.AfterFunc(away, func() { env.records.goAway(false) })
		}
	}
	var faults []string
	for range 1 + d.IntN(3) {
		faults = append(faults, pick(d, writeRefused, writeLost, writeLost, writeLate))
	}
	return "writes to the ledger: " + strings.Join(faults, ", "), func(env *environment) { env.records.fail(faults...) }
}

func setTrap(d *dice) (string, func(env *environment)) {
	trap := trap{step: pick(d, everyStep()...), skip: d.IntN(2), do: pick(d, trapKill, trapKill, trapKill, trapCut, trapStop)}
	if d.IntN(4) == 0 {
		trap.step, trap.skip = pick(d, "ledger/before", "ledger/after"), d.IntN(8)
	}
	return fmt.Sprintf("%s waits at %s for the server that comes there after %d", trap.do, trap.step, trap.skip), func(env *environment) { env.traps.add(trap) }
}

func killNow(*dice) (string, func(env *environment)) {
	return "the active server is killed", func(env *environment) {
		if s := env.active(); s != nil {
			s.kill()
		}
	}
}

func stopNow(*dice) (string, func(env *environment)) {
	return "the active server is asked to stop", func(env *environment) {
		if s := env.active(); s != nil {
			go s.stop()
		}
	}
}

func loseLease(d *dice) (string, func(env *environment)) {
	away := time.Duration(5+d.IntN(40)) * time.Second
	return fmt.Sprintf("the active server does not reach the Lease for %v", away), func(env *environment) {
		env.lease.cutOff(env.lease.heldBy(), away)
	}
}

// clocksStep lets a node's clock be off by what two nodes may differ, and the
// one that revisions come from by whatever.
func clocksStep(d *dice) (string, func(env *environment)) {
	name := fmt.Sprintf("server-%d", d.IntN(2))
	off := time.Duration(d.IntN(41)-20) * time.Second
	far := time.Duration(d.IntN(7200)-3600) * time.Second
	return fmt.Sprintf("the clock of %s is off by %v, that of revisions by %v", name, off, far), func(env *environment) {
		if c := env.clocks[name]; c != nil {
			c.step(off)
		}
		env.revisionClock.step(far)
	}
}

func adminFrees(d *dice) (string, func(env *environment)) {
	n := d.IntN(100)
	return "an administrator frees a machine of ours", func(env *environment) { env.administrators.free(n) }
}

func adminTags(d *dice) (string, func(env *environment)) {
	n := d.IntN(100)
	if d.IntN(2) == 0 {
		return "an administrator takes our tags off a machine", func(env *environment) { env.administrators.untag(n) }
	}
	return "an administrator adds a tag to a machine of ours", func(env *environment) { env.administrators.tag(n) }
}

func adminLocks(d *dice) (string, func(env *environment)) {
	n := d.IntN(100)
	return "an administrator locks a machine of ours", func(env *environment) { env.administrators.lock(n) }
}

// otherProjectAllocates gives the next machine that becomes free to another
// project, the moment that it can be had.
func otherProjectAllocates(*dice) (string, func(env *environment)) {
	return "another project takes the next machine that is freed, as soon as it can be had", func(env *environment) {
		before := len(env.sim.Inventory().History)
		env.clients.Go(func() {
			for range 180 {
				time.Sleep(time.Second)
				if env.areFaultsStopped() {
					return
				}
				for _, d := range env.sim.Inventory().History[before:] {
					if m, ok := env.sim.Inventory().Machine(d.ID); d.Verb == "free" && ok && m.Waiting && m.Size == simulator.SmallSize {
						env.administrators.take()
						return
					}
				}
			}
		})
	}
}

func otherProjectCopiesTags(d *dice) (string, func(env *environment)) {
	n := d.IntN(100)
	return "another project takes a machine and copies our tags to it", func(env *environment) { env.administrators.copyTags(n) }
}

func adminDuplicates(d *dice) (string, func(env *environment)) {
	n := d.IntN(100)
	return "an administrator allocates a machine in our project and copies our tags to it", func(env *environment) { env.administrators.duplicate(n) }
}
