// SPDX-License-Identifier: Apache-2.0

package recordformat

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRead_Format(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]int{
		`{}`:                            1,
		`{"object":{"format":7}}`:       1,
		`{"format":1}`:                  1,
		`{"format":1,"object":{}}`:      1,
		`{"format":2}`:                  2,
		`{"object":{},"format":2}`:      2,
		"{\n  \"format\": 3,\n\"a\":1}": 3,
		`{"format":2147483647}`:         math.MaxInt32,
	} {
		h, err := Read([]byte(value))
		require.NoError(t, err, value)
		assert.Equal(t, want, h.Format, value)
	}
}

func TestRead_MalformedFormatIsDamage(t *testing.T) {
	t.Parallel()
	for _, format := range []string{
		`0`, `-1`, `-0`, `1.5`, `1.0`, `1e0`, `2147483648`, `1` + strings.Repeat("0", 400), `"1"`, `"2"`, `null`, `true`, `{}`, `[2]`,
	} {
		err := Check([]byte(`{"format":` + format + `,"object":{}}`))
		require.Error(t, err, format)
		assert.False(t, IsNewer(err), "%s: %v", format, err)
		assert.Contains(t, err.Error(), "format: ")
		assert.Less(t, len(err.Error()), 200)
	}
	for _, value := range []string{``, `{`, `[]`, `2`, `"x"`, `{"format":2`} {
		err := Check([]byte(value))
		require.Error(t, err, value)
		assert.False(t, IsNewer(err), value)
	}
}

func TestCheck_NewerFormatSaysWhatToDo(t *testing.T) {
	t.Parallel()
	err := Check(fmt.Appendf(nil, `{"writtenBy":"v9.1.0","format":%d}`, Newest+1))
	require.True(t, IsNewer(fmt.Errorf("failed to read: %w", err)))
	assert.Regexp(t, fmt.Sprintf(`^records have format %d, written by v9\.1\.0; this server \S+ reads formats up to %d: upgrade the server$`, Newest+1, Newest), err.Error())

	for _, by := range []string{`7`, `null`, `"\n\u0000` + strings.Repeat("x", 1000) + `"`, `"\ud800"`, `{}`} {
		err := Check(fmt.Appendf(nil, `{"format":%d,"writtenBy":%s}`, Newest+1, by))
		require.True(t, IsNewer(err), by)
		assert.Less(t, len(err.Error()), 250)
		assert.NotContains(t, err.Error(), "\n")
	}
}

// What is written must be read, by this release and, one minor release before a new
// format is written, by the one before.
func TestFormat_WrittenIsRead(t *testing.T) {
	t.Parallel()
	assert.LessOrEqual(t, Written, Newest)
	assert.LessOrEqual(t, Newest, Written+1, "a format is written one minor release after it is read")
	h, err := Read([]byte(Prefix() + `,"a":1}`))
	require.NoError(t, err)
	assert.Equal(t, Written, h.Format)
}

func FuzzRead_AgreesWithJSON(f *testing.F) {
	for _, seed := range []string{`{"format":1,"object":{}}`, `{"format":1}`, `{"format":12}`, `{"format":1x}`, `{"format":"1"}`, `{"format":2,"writtenBy":"v1"}`, `{}`, `null`, ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		h, err := Read(value)
		if err != nil {
			return
		}
		assert.Positive(t, h.Format)
		var all map[string]json.RawMessage
		// A field that is there twice counts as the first one, if that is Written.
		if json.Unmarshal(value, &all) == nil && strings.Count(strings.ToLower(string(value)), `"format"`) == 1 && !strings.Contains(string(value), `\`) {
			if format, found := all["format"]; found {
				assert.Equal(t, fmt.Sprint(h.Format), string(format))
			}
		}
	})
}
