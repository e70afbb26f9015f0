// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMachine_Allocatable(t *testing.T) {
	waiting := Machine{Liveliness: LivelinessAlive, Events: []Event{{Event: EventWaiting}, {Event: "Registering"}}}
	require.True(t, waiting.Allocatable())
	for name, spoil := range map[string]func(*Machine){
		"allocated":   func(m *Machine) { m.Allocation = &Allocation{} },
		"not waiting": func(m *Machine) { m.Events = []Event{{Event: "PXE Booting"}, {Event: EventWaiting}} },
		"no events":   func(m *Machine) { m.Events = nil },
		"dead":        func(m *Machine) { m.Liveliness = "Dead" },
		"reserved":    func(m *Machine) { m.State = "RESERVED" },
		"locked":      func(m *Machine) { m.State = "LOCKED" },
	} {
		m := waiting
		spoil(&m)
		require.False(t, m.Allocatable(), name)
	}
}

func TestTagValue_MatchesWholeKeys(t *testing.T) {
	tags := []string{"plain", TagUID + "x=no", Tag(TagUID, "a=b"), Tag(TagUID, "second")}
	v, ok := TagValue(tags, TagUID)
	require.True(t, ok)
	require.Equal(t, "a=b", v)
	_, ok = TagValue(tags, "plain")
	require.False(t, ok)
}

func FuzzTagValue(f *testing.F) {
	f.Add(TagUID, "u", "other=x")
	f.Add("", "", "")
	f.Add("a", "b=c", "a")
	f.Fuzz(func(t *testing.T, key, value, other string) {
		if strings.Contains(key, "=") {
			return
		}
		got, found := TagValue([]string{Tag(key, value), other}, key)
		assert.True(t, found)
		assert.Equal(t, value, got)
		_, found = TagValue([]string{other}, key)
		assert.Equal(t, strings.HasPrefix(other, key+"="), found)
		assert.Equal(t, value, (&Machine{Tags: []string{Tag(TagUID, value)}}).UID())
		assert.Empty(t, (&Machine{Tags: []string{"x" + Tag(TagUID, value)}}).UID())
	})
}
