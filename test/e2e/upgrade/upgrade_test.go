// SPDX-License-Identifier: Apache-2.0

package upgrade_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"metal-stack.io/infrastructure-apiserver/test/framework/traffic"
)

// TestUpgrade upgrades an installation under load, rolls it back, upgrades it again with a
// crash in the middle, and has it meet records of a release that is too new. All share one installation, in this order.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	from, to := previous(t), present(t)
	env := install(t, from, to)
	env.populate()
	before, operations := env.snapshot(), len(env.Metal.Sim.Inventory().History)
	flaps := env.watchReady()
	load := traffic.Options{Namespace: env.busy.Namespace, Writers: 2, Readers: 1, Watchers: 2}

	for _, step := range []struct {
		name    string
		version string
		order   order
		machine string
	}{
		{"Upgrade", to.Version, standbyFirst, "in-flight-1"},
		{"Rollback", from.Version, activeFirst, "in-flight-2"},
	} {
		ok := t.Run(step.name, func(t *testing.T) {
			env := env.of(t)
			clients := traffic.Start(t, env.Cluster, load)
			began := time.Now()
			env.apply(step.version)
			clients.AwaitWrites(10) // by the old programs, with the new rights
			env.roll(step.order, func() { env.beginAllocation(env.teams[0].Namespace, step.machine) })
			env.rollManager()
			t.Logf("%s took %s", step.name, time.Since(began).Round(time.Millisecond))
			clients.AwaitWrites(10)
			clients.Stop()
			clients.RequireUnharmed()
			env.serves()
			env.requireUnchanged(before, operations)
		})
		if !ok {
			return
		}
	}

	t.Run("Upgrade_NewServerCrashesAfterItTookOver", func(t *testing.T) {
		env := env.of(t)
		env.apply(to.Version)
		env.roll(standbyFirst, func() {})
		killed := env.pair()[0]
		env.beginAllocation(env.teams[1].Namespace, "in-flight-3")
		killed.Kill()
		killed.Pod.SetReady(t, false)
		env.AwaitActive(t, env.pairWithout(killed)...)
		killed.Pod.Delete(t)
		env.rollManager()
		env.AwaitAvailable(t)
		env.serves()
		env.requireUnchanged(before, operations)
	})

	t.Run("Downgrade_NewerRecordsAreRefused", func(t *testing.T) {
		env := env.of(t)
		env.requireNewerRecordsRefused()
		env.requireUnchanged(before, operations)
	})
	assert.Empty(t, flaps(), "objects that were ready were not, for a moment")
}
