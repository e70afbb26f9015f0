// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParseReference_TakesNamesAndTypes(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]Reference{
		"a":           {Machine, "a"},
		"machine/a":   {Machine, "a"},
		"MSM/a":       {Machine, "a"},
		"firewalls/a": {Firewall, "a"},
		"msf/a":       {Firewall, "a"},
		"metalstackfirewall.infrastructure.cluster.x-k8s.io/a":            {Firewall, "a"},
		"metalstackmachines.v1alpha4.infrastructure.cluster.x-k8s.io/a.b": {Machine, "a.b"},
	} {
		ref, err := ParseReference(arg, Machine)
		assert.NoError(t, err, arg)
		assert.Equal(t, want, ref, arg)
		again, err := ParseReference(ref.FullName(), Machine)
		assert.NoError(t, err, arg)
		assert.Equal(t, want, again)
		again, err = ParseReference(ref.Arg(), Machine)
		assert.NoError(t, err, arg)
		assert.Equal(t, want, again)
	}
	ref, err := ParseReference("a", Firewall)
	assert.NoError(t, err)
	assert.Equal(t, Reference{Firewall, "a"}, ref)
}

func TestParseReference_ErrorsSayWhatIsAllowed(t *testing.T) {
	t.Parallel()
	for arg, says := range map[string]string{
		"":                       "expected NAME, machine/NAME or firewall/NAME",
		"machine/":               "expected NAME",
		"machine/a/b":            "expected NAME",
		"pod/a":                  `unknown type "pod": expected machine (msm) or firewall (msf)`,
		"machines.example.org/a": "the group of machines and firewalls is infrastructure.cluster.x-k8s.io",
	} {
		_, err := ParseReference(arg, Machine)
		assert.ErrorContains(t, err, says, arg)
	}
}
