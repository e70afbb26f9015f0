package metal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"
)

const recordings = "../simulator/testdata/exchanges/"

// fleet is the answer of a list of n machines that have all phoned home: the
// recorded list (343) repeated under new ids.
func fleet(t testing.TB, n int) []byte {
	t.Helper()
	data, err := os.ReadFile(recordings + "343-machine-list-many-allocated.json")
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

// What a list of 10,000 machines costs this side of the wire, by the way in
// which it is read.
func BenchmarkListDecode(b *testing.B) {
	body := fleet(b, 10_000)
	ways := map[string]func() (int, any, error){
		"lean": func() (int, any, error) {
			var l lean
			err := l.readMany(json.NewDecoder(bytes.NewReader(body)))
			return len(l.machines), l.machines, err
		},
		"metal-go": func() (int, any, error) {
			var all []*models.V1MachineResponse
			err := strictJSON(bytes.NewReader(body), &all)
			return len(all), all, err
		},
	}
	for name, read := range ways {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var kept any
			for b.Loop() {
				n, value, err := read()
				require.NoError(b, err)
				require.Equal(b, 10_000, n)
				kept = value
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB-kept")
			runtime.KeepAlive(kept)
		})
	}
}

func readFleet(t testing.TB, l *lean, n int) error {
	return l.readMany(json.NewDecoder(bytes.NewReader(fleet(t, n))))
}
