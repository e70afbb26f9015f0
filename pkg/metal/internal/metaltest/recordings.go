// SPDX-License-Identifier: Apache-2.0

package metaltest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// Recordings is the directory of what was recorded of a metal-api.
func Recordings(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	require.True(t, ok)
	return filepath.Join(filepath.Dir(file), "../../../simulator/testdata")
}

// Fleet is the answer of a list of n machines that have all phoned home: the
// recorded list repeated under new ids.
func Fleet(t testing.TB, n int) []byte {
	t.Helper()
	data, err := os.ReadFile(Recordings(t) + "/exchanges/343-machine-list-many-allocated.json")
	require.NoError(t, err)
	var r struct {
		Body []map[string]any `json:"response_body"`
	}
	require.NoError(t, json.Unmarshal(data, &r))
	var b bytes.Buffer
	b.WriteByte('[')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		m := r.Body[i%len(r.Body)]
		m["id"] = fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		one, err := json.Marshal(m)
		require.NoError(t, err)
		b.Write(one)
	}
	b.WriteByte(']')
	return b.Bytes()
}
