// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// TestInvariants_FindViolations breaks one thing on purpose at a time.
// Invariants that cannot fail prove nothing: each has to object to something
// here.
func TestInvariants_FindViolations(t *testing.T) {
	lostAnswer := callPoint("machine-allocate", "is done, and its answer lost", simulator.Fault{Kind: simulator.FaultCommitThenLose})
	lateAnswer := callPoint("machine-allocate", "is done after its caller gave up", simulator.Fault{Kind: simulator.FaultCommitThenLate, Latency: 5*time.Minute + 25*time.Second})
	nothing := point{}
	hiding, returning := &hidingLedger{}, &hidingLedger{}
	for name, c := range map[string]struct {
		breaks breaks
		play   func(env *environment)
		// objects is the invariant that has to, and words what it says.
		objects, words string
	}{
		"finds that do not find":                   {breaks{metal: port(blind)}, plays(lostAnswer), "no two for one uid", "was allocated for"},
		"no wait for what a lost call may do":      {breaks{timing: allocation.Timing{UncertainDuration: time.Second}}, allocates(lateAnswer), "no two for one uid", "was allocated for"},
		"a look that is older than the call":       {breaks{metal: port(stale)}, giveToAnother, "foreign metal is untouched", "which was made by simulator"},
		"a free of what was not released":          {breaks{metal: port(generous)}, plays(nothing), "only released metal is freed", "was not requested"},
		"a free of what is not allocated":          {breaks{metal: port(twice)}, plays(nothing), "foreign metal is untouched", "was not allocated"},
		"a free of what was adopted":               {breaks{metal: port(eager(time.Minute))}, adopted, "only released metal is freed", "was not requested"},
		"a free of what is not adopted yet":        {breaks{metal: port(eager(0))}, adopted, "foreign metal is untouched", "which was made by simulator"},
		"a network that is thought to be its own":  {breaks{metal: greedy}, adoptedNetworks, "foreign metal is untouched", "which was made by simulator"},
		"attempts without a pause":                 {breaks{metal: port(impatient)}, allocates(nothing), "addresses stay", "was taken away"},
		"a network that is freed with addresses":   {breaks{metal: crowded}, plays(nothing), "no half-freed network", "freed by halves"},
		"a refusal that quotes user data":          {breaks{metal: port(quoting)}, plays(nothing), "no secret leaves", token},
		"a ledger without compare-and-swap":        {breaks{ledger: careless}, overwrite, "acknowledged writes persist", "without example.org/"},
		"a ledger that loses a record for a while": {breaks{ledger: hiding.over}, hideOnce(hiding), "acknowledged writes persist", "lacks c0"},
		"a record that comes back":                 {breaks{ledger: returning.over}, hideOnce(returning), "acknowledged writes persist", "again"},
		"revisions of the clock alone":             {breaks{ledger: markless}, restartInThePast, "acknowledged writes persist", "had been answered"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				broken := pointSetup(1)
				// Some never come to rest.
				broken.convergence = 10 * time.Minute
				env := newEnvironment(t, 1, broken, c.breaks)
				defer env.close()
				c.play(env)
				wrong := env.check()
				if !slices.ContainsFunc(wrong, func(words string) bool {
					return strings.HasPrefix(words, c.objects) && strings.Contains(words, c.words)
				}) {
					t.Errorf("no invariant objected that %q; only:\n%s\n%s", c.words, strings.Join(wrong, "\n"), env.story())
				}
			})
		})
	}
}

func plays(p point) func(env *environment) {
	return func(env *environment) { p.play(env) }
}

// allocates plays the first half, and waits for what comes late.
func allocates(p point) func(env *environment) {
	return func(env *environment) {
		env.eventually(env.anyServerReady)
		if p.prepare != nil {
			p.prepare(env)
		}
		for _, name := range []string{"c0", "m0-0"} {
			env.eventually(func() string { return env.present(name) })
		}
		env.eventually(env.everythingIsAllocated)
		time.Sleep(time.Minute)
	}
}

// giveToAnother has a machine freed by an administrator, given to another project
// and released by its former owner.
func giveToAnother(env *environment) {
	env.eventually(env.anyServerReady)
	for _, name := range []string{"c0", "m0-0"} {
		env.eventually(func() string { return env.present(name) })
	}
	env.eventually(env.everythingIsAllocated)
	env.administrators.free(0)
	time.Sleep(2 * time.Minute)
	env.administrators.take()
	env.eventually(env.everythingIsGivenBack)
}

// adopted plays an adoption, and waits for what comes of it.
func adopted(env *environment) {
	env.eventually(env.anyServerReady)
	env.eventually(func() string { return env.present("c0") })
	env.eventually(env.everythingIsAllocated)
	env.adopts()
	time.Sleep(3 * time.Minute)
}

// adoptedNetworks plays a cluster's adoption, and its release.
func adoptedNetworks(env *environment) {
	env.eventually(env.anyServerReady)
	env.adoptsNetworks()
	env.eventually(env.everythingIsAllocated)
	env.eventually(func() string { return env.removed(clusters, namingClusters[0]) })
	time.Sleep(3 * time.Minute)
}

// overwrite lets a patch arrive late, after another one was acknowledged.
func overwrite(env *environment) {
	env.eventually(env.anyServerReady)
	env.eventually(func() string { return env.present("c0") })
	env.eventually(env.everythingIsAllocated)
	env.records.fail(writeLate)
	_ = env.patch(clusters, "c0", "example.org/late")
	env.active().kill()
	time.Sleep(5 * time.Second)
	env.eventually(env.anyServerReady)
	env.eventually(func() string {
		if err := env.patch(clusters, "c0", "example.org/early"); err != nil {
			return err.Error()
		}
		return ""
	})
	time.Sleep(lateness)
	restartTwice(env)
}

func restartTwice(env *environment) {
	env.eventually(env.anyServerReady)
	env.eventually(func() string { return env.present("c0") })
	for range 2 {
		env.active().kill()
		time.Sleep(5 * time.Second)
		env.eventually(env.anyServerReady)
		_, _ = env.list(clusters, "0")
	}
}

// hideOnce lets a server start that cannot see all records, and another one.
func hideOnce(l *hidingLedger) func(env *environment) {
	return func(env *environment) {
		env.eventually(env.anyServerReady)
		env.eventually(func() string { return env.present("c0") })
		_, _ = env.list(clusters, "0")
		for _, hides := range []bool{true, false} {
			l.hides.Store(hides)
			env.active().kill()
			time.Sleep(5 * time.Second)
			env.eventually(env.anyServerReady)
			_, _ = env.list(clusters, "0")
		}
	}
}

func restartInThePast(env *environment) {
	env.eventually(env.anyServerReady)
	env.eventually(func() string { return env.present("c0") })
	env.revisionClock.step(-time.Hour)
	restartTwice(env)
}

// TestInvariants_FindGapInWatch: a watcher that passes over an event is found by
// another one that saw it.
func TestInvariants_FindGapInWatch(t *testing.T) {
	seen := func(after, until uint64, events map[uint64]string) *watcher {
		return &watcher{resource: machines, spans: []*span{{after: after, until: until, events: events}}}
	}
	whole := seen(1, 9, map[uint64]string{3: "ADDED a 3", 5: "MODIFIED a 5"})
	for _, c := range []struct {
		name  string
		other *watcher
		gaps  int
	}{
		{"it saw the same", seen(1, 9, map[uint64]string{3: "ADDED a 3", 5: "MODIFIED a 5"}), 0},
		{"it began later", seen(3, 9, map[uint64]string{5: "MODIFIED a 5"}), 0},
		{"it passed over one", seen(1, 9, map[uint64]string{5: "MODIFIED a 5"}), 1},
		{"it saw another one", seen(1, 9, map[uint64]string{3: "ADDED b 3", 5: "MODIFIED a 5"}), 1},
	} {
		if gaps := c.other.unseen(whole); len(gaps) != c.gaps {
			t.Errorf("%s: %v", c.name, gaps)
		}
	}
}
