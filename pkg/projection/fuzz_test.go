// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
)

// answer is what the metal-api answers to everything.
type answer struct{ body []byte }

func (a *answer) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(bytes.NewReader(a.body)),
	}, nil
}

// What the metal-api says of a machine, in any order, is shown the same, can be
// sent to clients, and is in no record.
func FuzzProject_IsDeterministic(f *testing.F) {
	for _, recording := range []string{"205", "214", "216", "271", "532", "536"} {
		files, err := filepath.Glob(filepath.Join("..", "simulator", "testdata", "exchanges", recording+"-*.json"))
		require.NoError(f, err)
		data, err := os.ReadFile(files[0])
		require.NoError(f, err)
		var exchange struct {
			Body json.RawMessage `json:"response_body"`
		}
		require.NoError(f, json.Unmarshal(data, &exchange))
		f.Add([]byte(exchange.Body), string(infrastructure.AllocationAllocated))
	}
	f.Add([]byte(`{"id":"a"}`), string(infrastructure.AllocationReleasing))
	f.Add([]byte(`{"id":"a","allocation":{"allocationuuid":"b","networks":[{"ips":["10.0.0.1","::1","x"]}]}}`), string(infrastructure.AllocationAllocating))
	f.Add([]byte(`{"id":"a","allocation":{"allocationuuid":"b","networks":[{"ips":["10.0.0.2","10.0.0.10","10.0.0.1x","0::1","::1"]}]}}`), string(infrastructure.AllocationAllocated))
	f.Add([]byte(`{"id":"a","allocation":{"created":"9999-12-31T23:59:59-23:59"}}`), string(infrastructure.AllocationAllocated))
	api := &answer{}
	client, err := metalclient.New(metalclient.Options{URL: "http://metal-api.invalid", HMAC: "none", Transport: api})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, body []byte, phase string) {
		api.body = body
		m, err := client.Machine(t.Context(), "00000000-0000-4000-8000-000000000001")
		if err != nil || !utf8.ValidString(phase) { // no record can hold it
			return
		}
		b := newFixture(t)
		b.facts.machines[m.ID] = m
		record := b.allocated(m)
		record.Status.Allocation.Phase = infrastructure.AllocationPhase(phase)
		shown := b.project(record, nil)

		// The next observation says the same in another order.
		next := *m
		next.Tags = slices.Clone(m.Tags)
		slices.Reverse(next.Tags)
		if m.Allocation != nil {
			a := *m.Allocation
			a.Networks = slices.Clone(a.Networks)
			ids := map[string]bool{}
			for _, n := range a.Networks {
				ids[n.NetworkID] = true
			}
			if len(ids) == len(a.Networks) {
				slices.Reverse(a.Networks)
			}
			for i, n := range a.Networks {
				a.Networks[i].IPs, a.Networks[i].Prefixes = slices.Clone(n.IPs), slices.Clone(n.Prefixes)
				slices.Reverse(a.Networks[i].IPs)
				slices.Reverse(a.Networks[i].Prefixes)
			}
			next.Allocation = &a
		}
		b.facts.machines[m.ID] = &next
		assert.Equal(t, shown, b.project(record, shown), "no client is told of a change that is none")

		encoded, err := runtime.Encode(scheme.StorageCodec, shown)
		require.NoError(t, err)
		decoded, err := runtime.Decode(scheme.StorageCodec, encoded)
		require.NoError(t, err)
		again, err := runtime.Encode(scheme.StorageCodec, decoded)
		require.NoError(t, err)
		assert.Equal(t, string(encoded), string(again))

		stripped, bare := shown.DeepCopy(), record.DeepCopy()
		NewMachineProjector(b.source).Strip(stripped)
		NewMachineProjector(b.source).Strip(bare)
		assert.Equal(t, bare, stripped)
	})
}
