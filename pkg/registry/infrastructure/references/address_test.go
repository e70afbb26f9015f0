// SPDX-License-Identifier: Apache-2.0

package references

import (
	"context"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// addressOffers has the network internet, with a static and an ephemeral address of the project.
type addressOffers struct{ offers }

func (addressOffers) LookupNetwork(_ context.Context, id, _ string) (*metal.Network, []string, error) {
	return &metal.Network{ID: id, Prefixes: []string{"203.0.113.0/24"}}, []string{id}, nil
}

func (addressOffers) LookupAddress(_ context.Context, address netip.Addr, project string) (*metal.IP, *metal.Network, error) {
	kind := map[string]string{"203.0.113.1": metal.TypeStatic, "203.0.113.2": metal.TypeEphemeral}[address.String()]
	if kind == "" {
		return nil, nil, nil
	}
	return &metal.IP{Address: address.String(), Project: project, NetworkID: "internet", Type: kind}, nil, nil
}

func TestAddress_IsInNetworkAndStatic(t *testing.T) {
	t.Parallel()
	v := &Validator{Catalogue: addressOffers{}, Projects: projects{"team-a": project}}
	for _, c := range []struct{ address, network, words string }{
		{"203.0.113.1", "internet", ""},
		{"203.0.113.9", "internet", ""},
		{"203.0.113.1", "mpls", `is in network "internet": set networkID to it`},
		{"203.0.113.2", "internet", "is an ephemeral address of the project"},
		{"192.0.2.1", "internet", `must be in network "internet" (203.0.113.0/24)`},
	} {
		check := v.Begin(context.Background(), "team-a")
		check.Address(path, c.address, "", c.network)
		if c.words == "" {
			assert.Empty(t, check.Errors(), "%+v", c)
			continue
		}
		assert.ErrorContains(t, check.Errors().ToAggregate(), c.words, "%+v", c)
	}
	unchanged := v.Begin(context.Background(), "team-a")
	unchanged.Address(path, "192.0.2.1", "192.0.2.1", "internet")
	assert.Empty(t, unchanged.Errors(), "it was accepted before")
}
