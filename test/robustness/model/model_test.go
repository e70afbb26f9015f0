// SPDX-License-Identifier: Apache-2.0

package model

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The histories that are explored, each with everything that can happen in it.
var (
	oneServer        = bounds{lease: true, crashes: 2, losses: 2, refusals: 1, stalls: 1, deletions: 1, foreignAllocations: 1}
	takeover         = bounds{lease: true, takeovers: 1, losses: 1, refusals: 1, stalls: 1, deletions: 1, foreignAllocations: 1}
	takeoverAndCrash = bounds{lease: true, takeovers: 1, crashes: 1, losses: 1, deletions: 1, foreignAllocations: 1}
	twoTakeovers     = bounds{lease: true, takeovers: 2, losses: 1, stalls: 1, deletions: 1, foreignAllocations: 1}
	foreignClients   = bounds{lease: true, takeovers: 1, losses: 1, deletions: 1, foreignFrees: 1, foreignAllocations: 1, wipe: open}
	noLease          = bounds{losses: 1, deletions: 1, foreignAllocations: 1, crashes: 1}
	noLeaseSlow      = bounds{stalls: 1, refusals: 1, deletions: 1, foreignAllocations: 1}
	// Two servers act at once for as long as no duplicate is to be freed.
	noLeaseForeignClients = bounds{losses: 1, deletions: 1, foreignFrees: 1, wipe: open}
	// A call is made so late that nobody can have waited for it: there are
	// duplicates.
	lateCalls             = bounds{lease: true, takeovers: 2, lateCalls: 3, foreignAllocations: 1}
	lateCallsLossy        = bounds{lease: true, takeovers: 1, losses: 1, lateCalls: 3, foreignAllocations: 1}
	lateCallsTwoTakeovers = bounds{lease: true, takeovers: 2, losses: 1, lateCalls: 3}
	lateCallsRelease      = bounds{lease: true, takeovers: 1, losses: 1, lateCalls: 3, foreignAllocations: 1, deletions: 1, kept: true}
)

func TestProtocol_KeepsInvariants(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]bounds{
		"one server":                                   oneServer,
		"a takeover":                                   takeover,
		"a takeover and a crash":                       takeoverAndCrash,
		"a takeover and another":                       twoTakeovers,
		"another client frees and allocates":           foreignClients,
		"two servers without a Lease":                  noLease,
		"two slow servers without a Lease":             noLeaseSlow,
		"two servers and another client that frees":    noLeaseForeignClients,
		"duplicates and two takeovers":                 lateCalls,
		"duplicates and a lost answer":                 lateCallsLossy,
		"a duplicate of what is released":              lateCallsRelease,
		"duplicates, two takeovers, and a lost answer": lateCallsTwoTakeovers,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := explore(b)
			require.Empty(t, f.wrong, "%s", f)
			assert.Positive(t, f.quiet)
			t.Log(f)
		})
	}
}

func TestProtocol_WithoutRuleBreaksInvariant(t *testing.T) {
	t.Parallel()
	const (
		doubled  = "two machines are allocated for one object"
		leftOver = "a machine is left over that belongs to no record"
		stolen   = "a foreign machine was freed"
		idly     = "a machine was freed that was not allocated"
	)
	for _, c := range []struct {
		name   string
		broken rule
		in     bounds
		wrong  string
	}{
		{"no look before a call", looksBeforeCalling, oneServer, doubled},
		{"no wait for an open call", waitsForOpenCalls, oneServer, leftOver},
		{"too short a wait for an open call", waitsLongEnough, oneServer, doubled},
		{"a lost answer taken for a refusal", takesLossForLoss, oneServer, doubled},
		{"an attempt begun over another", beginsByCompareAndSwap, noLease, doubled},
		{"another server's attempt given up", givesUpItsOwnAttempt, noLease, leftOver},
		{"an attempt recorded over a later one", recordsOverItsOwnAttempt, noLeaseForeignClients, leftOver},
		{"a late call made all the same", startsOverWhenLate, oneServer, leftOver},
		{"a free without a check of identity", checksIdentity, oneServer, stolen},
		{"no wait for an open free", waitsForOpenFrees, oneServer, idly},
		{"a free begun over another", beginsFreeByCompareAndSwap, noLease, idly},
		{"a release of what was read before", releasesWhatItRead, noLease, leftOver},
		{"another server's release refused", holdsBackItsOwn, noLease, idly},
		{"a release that does not look for what was lost", looksForWhatWasLost, oneServer, leftOver},
		{"a duplicate freed while a predecessor may", waitsBeforeSweeping, lateCalls, idly},
		{"a duplicate freed again at once", waitsForOwnFrees, lateCallsLossy, idly},
		{"writes without the Lease", fences, lateCallsTwoTakeovers, idly},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.in.broken = c.broken
			f := explore(c.in)
			require.Equal(t, c.wrong, f.wrong, "%s", f)
			require.NotEmpty(t, f.trace)
			t.Log(f)
		})
	}
}

func TestProtocol_KnownLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		in    bounds
		wrong string
	}{
		// The metal-api frees without a condition, so it takes the time in which
		// a freed machine is wiped.
		{
			"another client frees and allocates between a look and a call",
			bounds{lease: true, deletions: 1, foreignFrees: 1, foreignAllocations: 1},
			"a foreign machine was freed",
		},
		// It is shown as discovered, and freed by nobody.
		{
			"a call is made after the record was deleted",
			bounds{lease: true, takeovers: 1, lateCalls: 3, deletions: 1},
			"a machine is left over that belongs to no record",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := explore(c.in)
			require.Equal(t, c.wrong, f.wrong, "%s", f)
			t.Log(f)
		})
	}
}
