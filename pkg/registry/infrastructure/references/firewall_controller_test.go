// SPDX-License-Identifier: Apache-2.0

package references

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apiserver/pkg/warning"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func egress(network string, ips ...string) *infrastructure.FirewallController {
	return &infrastructure.FirewallController{EgressIPs: []infrastructure.FirewallEgressIPs{{NetworkID: network, IPs: ips}}}
}

func TestFirewallController_EgressIPsAreThoseOfTheProject(t *testing.T) {
	t.Parallel()
	check := func(controller, old *infrastructure.FirewallController) []string {
		c := checks(offers{}).Begin(context.Background(), "team-a")
		c.FirewallController(path, controller, old, true)
		var all []string
		for _, err := range c.Errors() {
			all = append(all, err.Error())
		}
		return all
	}
	assert.Empty(t, check(nil, egress("internet", "203.0.113.2")))
	assert.Empty(t, check(egress("internet", "203.0.113.1"), nil))
	assert.Empty(t, check(egress("internet", "203.0.113.2"), egress("internet", "203.0.113.2")), "it was set before")
	assert.Equal(t, []string{
		`spec.x.egressIPs[0].ips[0]: Invalid value: "203.0.113.2": is not allocated to project "` + project + `": set an address that the project has allocated in network "internet": see 'kubectl get metalstackips'`,
	}, check(egress("internet", "203.0.113.2"), nil))
	assert.Equal(t, []string{`spec.x.egressIPs[0].ips[0]: Invalid value: "203.0.113.1": is in network "internet": list it with that networkID`},
		check(egress("mpls", "203.0.113.1"), egress("internet", "203.0.113.1")))

	// Free, of a private network of others, of none of metal-stack: all are answered the same.
	all := check(egress("internet", "203.0.113.2", "10.0.0.7", "192.0.2.1"), nil)
	require.Len(t, all, 3)
	for i, ip := range []string{"203.0.113.2", "10.0.0.7", "192.0.2.1"} {
		assert.Equal(t, strings.NewReplacer("203.0.113.2", ip, "ips[0]", "ips["+string(rune('0'+i))+"]").Replace(all[0]), all[i])
	}
}

// releasing are addresses whose claims are being deleted.
type releasing []string

func (r releasing) IsAddressReleasing(_ context.Context, _, address string) (bool, error) {
	return slices.Contains(r, address), nil
}

func TestFirewallController_RefusesEgressIPsThatAreBeingReleased(t *testing.T) {
	t.Parallel()
	v := checks(offers{})
	v.Addresses = releasing{"203.0.113.1"}
	for old, refused := range map[*infrastructure.FirewallController]int{nil: 1, egress("internet", "203.0.113.1"): 0} {
		c := v.Begin(context.Background(), "team-a")
		c.FirewallController(path, egress("internet", "203.0.113.1"), old, true)
		require.Len(t, c.Errors(), refused)
		for _, err := range c.Errors() {
			assert.ErrorContains(t, err, "is an address whose MetalStackIP is being deleted")
		}
	}
}

func TestFirewallController_RateLimitsAreOfUsableNetworks(t *testing.T) {
	t.Parallel()
	limits := func(networks ...string) *infrastructure.FirewallController {
		c := &infrastructure.FirewallController{}
		for _, id := range networks {
			c.RateLimits = append(c.RateLimits, infrastructure.FirewallRateLimit{NetworkID: id, Rate: 1})
		}
		return c
	}
	c := checks(offers{networks: map[string]string{"mine": project, "internet": "", "theirs": "other"}}).Begin(context.Background(), "team-a")
	c.FirewallController(path, limits("mine", "internet", "gone"), limits("gone"), true)
	assert.Empty(t, c.Errors())
	c.FirewallController(path, limits("mine", "theirs", "unknown"), nil, true)
	require.Len(t, c.Errors(), 2)
	assert.Equal(t, `spec.x.rateLimits[1].networkID: Unsupported value: "theirs": supported values: "internet", "mine"`, c.Errors()[0].Error())
	assert.Equal(t, `spec.x.rateLimits[2].networkID: Unsupported value: "unknown": supported values: "internet", "mine"`, c.Errors()[1].Error())
}

// addresses counts what is looked up.
type addresses struct {
	offers
	asked *[]string
}

func (a addresses) LookupAddress(ctx context.Context, address netip.Addr, project string) (*metal.IP, *metal.Network, error) {
	*a.asked = append(*a.asked, address.String())
	return a.offers.LookupAddress(ctx, address, project)
}

func TestFirewallController_LooksUpWhatIsNew(t *testing.T) {
	t.Parallel()
	var asked []string
	o := checks(offers{})
	o.Catalogue = addresses{asked: &asked}
	o.Begin(context.Background(), "team-a").FirewallController(path, egress("internet", "203.0.113.2", "203.0.113.1"), egress("internet", "203.0.113.2", "203.0.113.3"), true)
	assert.Equal(t, []string{"203.0.113.1"}, asked)
}

// Nothing checks a source address later.
func TestFirewallController_RefusesEgressIPsThatCannotBeChecked(t *testing.T) {
	t.Parallel()
	var warnings recorder
	ctx := warning.WithWarningRecorder(context.Background(), &warnings)
	c := checks(offers{away: true}).Begin(ctx, "team-a")
	c.FirewallController(path, egress("internet", "203.0.113.2", "203.0.113.1"), nil, true)
	require.Len(t, c.Errors(), 1)
	assert.Equal(t, `spec.x.egressIPs[0].ips[0]: Internal error: "203.0.113.2" cannot be validated now: metal-api: not reached since 10:00`, c.Errors()[0].Error())
	assert.Empty(t, warnings)
}

func TestFirewallController_WarnsOfEgressIPsOfMovedMetalOnly(t *testing.T) {
	t.Parallel()
	for _, away := range []bool{false, true} {
		var warnings recorder
		ctx := warning.WithWarningRecorder(context.Background(), &warnings)
		c := checks(offers{away: away}).Begin(ctx, "team-a")
		c.moved = true
		c.FirewallController(path, egress("internet", "203.0.113.2"), nil, true)
		assert.Empty(t, c.Errors())
		assert.Len(t, warnings, 1)
		c.FirewallController(path, egress("internet", "203.0.113.2"), nil, false)
		assert.Len(t, c.Errors(), 1, "it can be had without the metal that it would be moved with")
		assert.Len(t, warnings, 1)
		assert.True(t, c.moved, "of other fields")
	}
}
