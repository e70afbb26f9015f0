// SPDX-License-Identifier: Apache-2.0

package model

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The histories that are explored, each with everything that can happen in it.
var (
	oneServer   = bounds{lease: true, crashes: 2, losses: 2, refusals: 1, stalls: 1, deletions: 1, gifts: 1}
	takeover    = bounds{lease: true, takeovers: 1, losses: 1, refusals: 1, stalls: 1, deletions: 1, gifts: 1}
	aCrashToo   = bounds{lease: true, takeovers: 1, crashes: 1, losses: 1, deletions: 1, gifts: 1}
	backAgain   = bounds{lease: true, takeovers: 2, losses: 1, stalls: 1, deletions: 1, gifts: 1}
	strangers   = bounds{lease: true, takeovers: 1, losses: 1, deletions: 1, strangers: 1, gifts: 1, wipe: open}
	noLease     = bounds{losses: 1, deletions: 1, gifts: 1, crashes: 1}
	noLeaseSlow = bounds{stalls: 1, refusals: 1, deletions: 1, gifts: 1}
	// Two servers act at once for as long as no duplicate is to be freed.
	noLeaseStrangers = bounds{losses: 1, deletions: 1, strangers: 1, wipe: open}
	// A call is made so late that nobody can have waited for it: there are
	// duplicates.
	oversleeping      = bounds{lease: true, takeovers: 2, oversleeps: 3, gifts: 1}
	oversleepingLossy = bounds{lease: true, takeovers: 1, losses: 1, oversleeps: 3, gifts: 1}
	oversleepingAgain = bounds{lease: true, takeovers: 2, losses: 1, oversleeps: 3}
	oversleptRelease  = bounds{lease: true, takeovers: 1, losses: 1, oversleeps: 3, gifts: 1, deletions: 1, kept: true}
)

func TestProtocol_KeepsInvariants(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]bounds{
		"one server":                                   oneServer,
		"a takeover":                                   takeover,
		"a takeover and a crash":                       aCrashToo,
		"a takeover and another":                       backAgain,
		"somebody frees and gives away":                strangers,
		"two servers without a Lease":                  noLease,
		"two slow servers without a Lease":             noLeaseSlow,
		"two servers and somebody who frees":           noLeaseStrangers,
		"duplicates and two takeovers":                 oversleeping,
		"duplicates and a lost answer":                 oversleepingLossy,
		"a duplicate of what is released":              oversleptRelease,
		"duplicates, two takeovers, and a lost answer": oversleepingAgain,
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
		stolen   = "a machine of somebody else's was freed"
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
		{"somebody else's attempt given up", givesUpItsOwnAttempt, noLease, leftOver},
		{"an attempt recorded over a later one", recordsOverItsOwnAttempt, noLeaseStrangers, leftOver},
		{"a late call made all the same", startsOverWhenLate, oneServer, leftOver},
		{"a free without a check of identity", checksIdentity, oneServer, stolen},
		{"no wait for an open free", waitsForOpenFrees, oneServer, idly},
		{"a free begun over another", beginsFreeByCompareAndSwap, noLease, idly},
		{"a release of what was read before", releasesWhatItRead, noLease, leftOver},
		{"somebody else's release held back", holdsBackItsOwn, noLease, idly},
		{"a release that does not look for what was lost", looksForWhatWasLost, oneServer, leftOver},
		{"a duplicate freed while a predecessor may", waitsBeforeSweeping, oversleeping, idly},
		{"a duplicate freed again at once", waitsForOwnFrees, oversleepingLossy, idly},
		{"writes without the Lease", fences, oversleepingAgain, idly},
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
			"somebody frees and gives away between a look and a call",
			bounds{lease: true, deletions: 1, strangers: 1, gifts: 1},
			"a machine of somebody else's was freed",
		},
		// It is shown as discovered, and freed by nobody.
		{
			"a call is made after the record was deleted",
			bounds{lease: true, takeovers: 1, oversleeps: 3, deletions: 1},
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
