// SPDX-License-Identifier: Apache-2.0

package model

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func tagged(tags uint8) serviceAddress { return serviceAddress{allocated: true, uuid: 1, tags: tags} }

func TestServices_KeepInvariants(t *testing.T) {
	t.Parallel()
	for name, address := range map[string]serviceAddress{
		"there is none":                          {},
		"a Service of the cluster has it":        tagged(ours),
		"another cluster has it":                 tagged(theirs),
		"both have it":                           tagged(ours | theirs),
		"it has a tag of a user, too":            tagged(ours | users),
		"it has a tag of each":                   tagged(ours | theirs | users),
		"it has tags of neither of the two":      tagged(users),
		"it has none, so that no cluster has it": tagged(0),
	} {
		for kind, static := range map[string]bool{"ephemeral": false, "static": true} {
			for who, in := range map[string]services{
				"by themselves":      {requests: 3, crashes: 2, losses: 2, failures: 1},
				"and others meddle":  {requests: 3, crashes: 1, losses: 1, failures: 1, foreignTags: 1, foreignFrees: 1},
				"and others do more": {requests: 4, foreignTags: 2, foreignFrees: 2},
			} {
				t.Run(kind+", "+name+", "+who, func(t *testing.T) {
					t.Parallel()
					in.address, in.static = address, static
					f := in.explore()
					require.Empty(t, f.wrong, "%s", f)
					assert.Positive(t, f.quiet)
					t.Log(f)
				})
			}
		}
	}
}

func TestServices_WithoutCautionBreaksInvariant(t *testing.T) {
	t.Parallel()
	const left, foreign, usersTag, removed = "an address keeps a tag of a cluster that is gone",
		"an address of another cluster was freed", "an address with a tag of others was freed", "tags of others were removed"
	for _, c := range []struct {
		name   string
		broken caution
		in     services
		wrong  string
	}{
		{"accepting requests during the release", refusesRequests, services{requests: 1}, left},
		{"not waiting for requests in progress", awaitsRequests, services{requests: 1}, left},
		{"not waiting for requests whose answers were lost", awaitsLostRequests, services{requests: 1, losses: 1}, left},
		{"freeing what others have, too", countsTags, services{address: tagged(ours | theirs)}, foreign},
		{"freeing what is static", keepsStatic, services{address: tagged(ours), static: true}, "a static address was freed"},
		{"looking but once", looksBeforeFreeing, services{address: tagged(ours), foreignTags: 1}, usersTag},
		{"not waiting for a predecessor's free", awaitsFrees, services{address: tagged(ours), requests: 1, crashes: 1}, foreign},
		{"replacing tags as they were listed", readsTagsBeforeReplacing, services{address: tagged(ours), static: true, foreignTags: 1}, removed},
		{"removing the last tag", freesWhatOthersLeft, services{address: tagged(ours | theirs), requests: 1}, "an address is left that no cluster has"},
		{"removing tags that a lost update names", refusesLostAddresses, services{address: tagged(ours | theirs), static: true, requests: 1, losses: 1}, left},
		{"forgetting a predecessor's free when a read fails", keepsStart, services{address: tagged(ours), requests: 1, crashes: 1, failures: 1}, foreign},
		{"giving another cluster what the cluster has", refusesOthersAddresses, services{address: tagged(ours), requests: 1}, foreign},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.in.broken = c.broken
			f := c.in.explore()
			require.Equal(t, c.wrong, f.wrong, "%s", f)
			t.Log(f)
		})
	}
}

// TestServices_KnownLimits: nothing shows a request of a metal-ccm once the server that made
// it is gone; and the metal-api frees an address whoever has it by then.
func TestServices_KnownLimits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in    services
		wrong string
	}{
		"a late allocation":    {services{requests: 1, crashes: 1, late: allocateIt}, "an address keeps a tag of a cluster that is gone"},
		"a late update":        {services{address: tagged(ours | theirs), static: true, requests: 1, crashes: 1, late: untagIt}, "an address keeps a tag of a cluster that is gone"},
		"a late free":          {services{address: tagged(ours), requests: 2, crashes: 1, late: freeIt}, "an address of another cluster was freed"},
		"a tag at that moment": {services{address: tagged(ours), foreignTags: 1, atAnyTime: true}, "an address with a tag of others was freed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := c.in.explore()
			require.Equal(t, c.wrong, f.wrong, "%s", f)
			t.Log(f)
		})
	}
}
