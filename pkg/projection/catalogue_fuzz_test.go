// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
)

// What the metal-api says of networks and addresses, in any order, is shown the same, and can be
// sent to clients.
func FuzzDiscovered_IsDeterministic(f *testing.F) {
	for _, recording := range []string{"084", "086", "121", "140"} {
		files, err := filepath.Glob(filepath.Join("..", "simulator", "testdata", "exchanges", recording+"-*.json"))
		require.NoError(f, err)
		for _, file := range files {
			data, err := os.ReadFile(file)
			require.NoError(f, err)
			var exchange struct {
				Body json.RawMessage `json:"response_body"`
			}
			require.NoError(f, json.Unmarshal(data, &exchange))
			f.Add([]byte(exchange.Body))
		}
	}
	f.Add([]byte(`{"id":"n","name":"a\u001b[2J\nb","prefixes":["10.0.0.0/8","x","::/64"],"destinationprefixes":["::/0","0.0.0.0/0"],"labels":{"cluster.metal-stack.io/id":"c"}}`))
	f.Add([]byte(`{"ipaddress":"2001:DB8::1","networkid":"n","projectid":"` + projectA + `","tags":["cluster.metal-stack.io/id/namespace/service=a","machine.metal-stack.io/id=","infrastructure.cluster.x-k8s.io/uid=u"]}`))
	api := &answer{}
	client, err := metalclient.New(metalclient.Options{URL: "http://metal-api.invalid", HMAC: "none", Transport: api})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, body []byte) {
		api.body = body
		b := newTenants(t)
		networks, ips := NewNetworkProjector(b.source), NewIPProjector(b.source)
		if n, err := client.Network(t.Context(), "n"); err == nil {
			b.facts.networks[n.ID] = n
			discovered := func() (all []runtime.Object) {
				for _, ref := range expanded(networks, n.ID) {
					obj, _ := networks.Discovered(ref)
					all = append(all, obj)
				}
				return all
			}
			shown := discovered()
			next := *n
			next.Prefixes, next.DestinationPrefixes = slices.Clone(n.Prefixes), slices.Clone(n.DestinationPrefixes)
			slices.Reverse(next.Prefixes)
			slices.Reverse(next.DestinationPrefixes)
			b.facts.networks[n.ID] = &next
			assert.Equal(t, shown, discovered(), "no client is told of a change that is none")
			for _, obj := range shown {
				canBeSent(t, obj)
			}
		}
		if ip, err := client.IP(t.Context(), "203.0.113.7"); err == nil {
			b.facts.ips[ip.Address] = ip
			obj, _ := ips.Discovered(metal.Ref{Kind: metal.KindIP, ID: ip.Address})
			canBeSent(t, obj)
		}
	})
}

func canBeSent(t *testing.T, obj runtime.Object) {
	t.Helper()
	if obj == nil {
		return
	}
	encoded, err := runtime.Encode(scheme.StorageCodec, obj)
	require.NoError(t, err)
	decoded, err := runtime.Decode(scheme.StorageCodec, encoded)
	require.NoError(t, err)
	again, err := runtime.Encode(scheme.StorageCodec, decoded)
	require.NoError(t, err)
	assert.Equal(t, string(encoded), string(again))
}
