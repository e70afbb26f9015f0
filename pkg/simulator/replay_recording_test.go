// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// recording is one file of a directory of recordings: an exchange, or the
// results of an experiment, which have no method.
type recording struct {
	file   string // 205-machine-allocate
	number int

	User        string          `json:"user"`
	Method      string          `json:"method"`
	Path        string          `json:"path"`
	Request     json.RawMessage `json:"request_body"`
	Status      int             `json:"status"`
	ContentType string          `json:"response_content_type"`
	Response    json.RawMessage `json:"response_body"`

	// settle takes out of an answer what is not to be compared; may be nil.
	settle func(any) any

	// At is when an inferred exchange was made, if that matters.
	At string `json:"at"`
}

// exchange distinguishes a request with its answer from an experiment.
func (r *recording) exchange() bool { return r.Method != "" }

// name is the file's name without its number.
func (r *recording) name() string {
	_, name, _ := strings.Cut(r.file, "-")
	return name
}

// loadRecordings reads a directory of recordings in the order in which they
// were made.
func loadRecordings(t testing.TB, dir string) []*recording {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files, "no recordings in %s", dir)
	var recordings []*recording
	for _, f := range files {
		data, err := os.ReadFile(f)
		require.NoError(t, err)
		r := &recording{file: strings.TrimSuffix(filepath.Base(f), ".json")}
		// An experiment may be a list; it is read by its own test.
		if !strings.HasPrefix(strings.TrimSpace(string(data)), "[") {
			require.NoError(t, json.Unmarshal(data, r), f)
		}
		r.number = numberOf(t, r.file)
		recordings = append(recordings, r)
	}
	sortByNumber(recordings)
	return recordings
}

func numberOf(t testing.TB, file string) int {
	t.Helper()
	number, _, _ := strings.Cut(file, "-")
	n, err := strconv.Atoi(number)
	require.NoError(t, err, "a recording's name begins with its number: %s", file)
	return n
}

func sortByNumber(recordings []*recording) {
	slices.SortStableFunc(recordings, func(a, b *recording) int { return a.number - b.number })
}

func containsNumber(recordings []*recording, number int) bool {
	return slices.ContainsFunc(recordings, func(r *recording) bool { return r.number == number })
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	return data
}

// experiment reads the results of an experiment into v.
func experiment(t testing.TB, file string, v any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "exchanges", file+".json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, v))
}

// decode reads JSON into maps, slices, strings, json.Numbers, booleans and nil.
func decode(t testing.TB, data []byte) any {
	t.Helper()
	if len(data) == 0 {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(string(data)))
	d.UseNumber()
	var v any
	require.NoError(t, d.Decode(&v), "not JSON: %s", data)
	return v
}
