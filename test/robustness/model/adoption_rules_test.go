// SPDX-License-Identifier: Apache-2.0

package model

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var beginnings = map[string]beginning{
	"both name what an administrator allocated by hand":   byHand,
	"the first one has it":                                held,
	"the first one is a claim that a backup knew":         restored,
	"the first one did not get the answer that it got it": lostReply,
	"it is one too many, of the first one's":              duplicate,
	"it got the first one's tags from an administrator":   copied,
	"it got the tags of a claim from an administrator":    handed,
}

func TestAdoption_KeepsInvariants(t *testing.T) {
	t.Parallel()
	for name, b := range beginnings {
		for who, in := range map[string]adopting{
			"by themselves":      {beginning: b, crashes: 3, losses: 2},
			"and others meddle":  {beginning: b, crashes: 2, losses: 1, foreignFrees: 1, foreignAllocations: 1},
			"and others do more": {beginning: b, crashes: 1, foreignFrees: 2, foreignAllocations: 2},
		} {
			t.Run(name+", "+who, func(t *testing.T) {
				t.Parallel()
				f := in.explore()
				require.Empty(t, f.wrong, "%s", f)
				assert.Positive(t, f.quiet)
				t.Log(f)
			})
		}
	}
}

func TestAdoption_WithoutPrecautionBreaksInvariant(t *testing.T) {
	t.Parallel()
	const both, swept = "two objects have it", "it was freed, and the second object has it"
	for _, c := range []struct {
		name   string
		broken precaution
		in     beginning
		wrong  string
	}{
		{"asking before recording", recordsBeforeAsking, byHand, both},
		{"finding what another one has", findsNothingOfOthers, handed, both},
		{"not counting attempts", countsAttempts, byHand, both},
		{"not counting identities, with a backup", countsIdentities, restored, both},
		{"not counting identities, with a duplicate", countsIdentities, duplicate, swept},
		{"looking but once", looksOnceMore, held, "a record names what was given back"},
		{"not asking before sweeping", asksBeforeSweeping, copied, swept},
		{"looking before asking", asksBeforeLooking, copied, "it was freed, and was nobody's"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := adopting{beginning: c.in, crashes: 1, broken: c.broken}.explore()
			require.Equal(t, c.wrong, f.wrong, "%s", f)
			t.Log(f)
		})
	}
}

// TestAdoption_KnownLimits: nothing shows a call of the
// Recoverer's once the record is deleted whose duplicate it frees.
func TestAdoption_KnownLimits(t *testing.T) {
	t.Parallel()
	f := adopting{beginning: duplicate, hasty: true}.explore()
	require.Equal(t, "it was freed, and the second object has it", f.wrong, "%s", f)
	t.Log(f)
}
