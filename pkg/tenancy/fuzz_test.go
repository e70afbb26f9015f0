// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The record of the bindings decides whose metal a namespace reaches.
func FuzzParseRecord_BindingsAreOneToOne(f *testing.F) {
	for _, seed := range []string{
		`{"namespaces":{"team-a":"10000000-0000-4000-8000-00000000000a"}}`, `{"namespaces":{}}`, `{"format":1,"namespaces":{}}`, `{"format":2,"namespaces":{}}`, `{"format":0,"namespaces":{}}`, `{}`, `null`, ``,
		`{"namespaces":{"a":"10000000-0000-4000-8000-00000000000a","b":"10000000-0000-4000-8000-00000000000A"}}`,
		`{"namespaces":{"team-a":"10000000-0000-4000-8000-00000000000a"},"uids":{"team-a":"u"},"takenOver":{"team-a":"2026-11-28T12:00:00Z"}}`,
		`{"namespaces":{"a":"x","a":"10000000-0000-4000-8000-00000000000a"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		bindings, err := parseRecord(value)
		if err != nil {
			assert.Nil(t, bindings)
			return
		}
		namespaces := map[string]string{}
		for namespace, b := range bindings {
			assert.True(t, isProjectID(b.project), "%q", b.project)
			assert.Empty(t, namespaces[b.project])
			namespaces[b.project] = namespace
		}
		written, err := json.Marshal(newRecord(bindings))
		require.NoError(t, err)
		again, err := parseRecord(written)
		require.NoError(t, err)
		assert.Equal(t, bindings, again)
	})
}
