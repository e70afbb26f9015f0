// SPDX-License-Identifier: Apache-2.0

package providerid

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const machine = "e0ab02d2-27cd-5a5e-8efc-080ba80cf258"

func TestParse_AcceptsThreeForms(t *testing.T) {
	t.Parallel()

	for providerID, want := range map[string]ID{
		"metalstack://" + machine:      {MachineID: machine},
		"metal:///" + machine:          {MachineID: machine},
		"metal://fra-equ01/" + machine: {Partition: "fra-equ01", MachineID: machine},
		"metal://vagrant/" + machine:   {Partition: "vagrant", MachineID: machine},
	} {
		got, err := Parse(providerID)
		require.NoError(t, err, providerID)
		assert.Equal(t, want, got, providerID)
	}
}

func TestString_WritesOneForm(t *testing.T) {
	t.Parallel()

	assert.Equal(t, "metal://vagrant/"+machine, New("vagrant", machine))
	assert.Equal(t, "metal:///"+machine, ID{MachineID: machine}.String())
}

func TestParse_ErrorsSayWhatIsAllowed(t *testing.T) {
	t.Parallel()

	for _, test := range []struct{ name, providerID, want string }{
		{"nothing", "", "must begin with"},
		{"no scheme", machine, "must begin with"},
		{"another provider's", "aws:///eu-central-1a/i-0a1b2c", "must begin with"},
		{"no id", "metalstack://", "must contain a machine id"},
		{"no id, no slash", "metal://vagrant", "must contain a machine id"},
		{"no id, slash", "metal://vagrant/", "must contain a machine id"},
		{"partition in the archived spelling", "metalstack://vagrant/" + machine, "must not have a path after the machine id"},
		{"one part too many", "metal://vagrant/rack-1/" + machine, "must not have a path after the machine id"},
		{"id without dashes", "metal:///" + strings.ReplaceAll(machine, "-", ""), "UUID"},
		{"id in capitals", "metal:///" + strings.ToUpper(machine), "lower case"},
		{"id in braces", "metal:///{" + machine + "}", "UUID"},
		{"hostname", "metalstack://node-1", "UUID"},
		{"partition with a space", "metal://fra equ/" + machine, "invalid partition"},
		{"partition too long", "metal://" + strings.Repeat("x", 64) + "/" + machine, "invalid partition"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(test.providerID)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func FuzzParse_RoundTrips(f *testing.F) {
	for _, seed := range []string{"metalstack://" + machine, "metal:///" + machine, "metal://vagrant/" + machine, "metal://", "metal://a/b/c", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, providerID string) {
		id, err := Parse(providerID)
		if err != nil {
			assert.Empty(t, id)
			return
		}
		assert.True(t, IsMachineID(id.MachineID))
		again, err := Parse(id.String())
		require.NoError(t, err)
		assert.Equal(t, id, again)
		if strings.HasPrefix(providerID, scheme) {
			assert.Equal(t, providerID, id.String(), "the server's own spelling is a fixed point")
		}
	})
}
