// SPDX-License-Identifier: Apache-2.0

package references

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/warning"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

const (
	project   = "10000000-0000-4000-8000-00000000000a"
	machineID = "2294c949-88f6-5390-8154-fa53d93a3313"
)

// offers is a catalogue in a test.
type offers struct {
	sizes    []string
	networks map[string]string // to project
	machines map[string]string // to project; "" if idle
	away     bool
}

var errAway = errors.New("metal-api: not reached since 10:00")

func (o offers) LookupSize(_ context.Context, id string) (*metal.Size, []string, error) {
	if o.away {
		return nil, nil, errAway
	}
	if slices.Contains(o.sizes, id) {
		return &metal.Size{ID: id}, o.sizes, nil
	}
	return nil, o.sizes, nil
}

func (o offers) LookupImage(_ context.Context, id, feature string) (*metal.Image, []string, error) {
	features := map[string]string{"ubuntu-24.04": metal.FeatureMachine, "firewall-ubuntu-3.0": metal.FeatureFirewall}
	var all []string
	for alias, f := range features {
		if f == feature {
			all = append(all, alias)
		}
	}
	if f, known := features[id]; known && (feature == "" || f == feature) {
		return &metal.Image{ID: id, Features: []string{f}}, all, nil
	}
	return nil, all, nil
}

func (offers) WithAllowance(ctx context.Context, _ string) context.Context { return ctx }

func (o offers) LookupPartition(context.Context, string) (*metal.Partition, []string, error) {
	return nil, []string{"fra-01"}, nil
}

func (o offers) LookupNetwork(_ context.Context, id, project string) (*metal.Network, []string, error) {
	var all []string
	for network, owner := range o.networks {
		if owner == "" || owner == project {
			all = append(all, network)
		}
	}
	if owner, known := o.networks[id]; known {
		return &metal.Network{ID: id, Project: owner}, all, nil
	}
	return nil, all, nil
}

func (o offers) LookupMachine(_ context.Context, id, project string) (*metal.Machine, error) {
	if o.away {
		return nil, errAway
	}
	switch owner, known := o.machines[id]; {
	case known && owner == "":
		return &metal.Machine{ID: id}, nil
	case known && owner == project:
		return &metal.Machine{ID: id, Size: "v1-small-x86", Allocation: &metal.Allocation{Project: owner, Image: "ubuntu-24.04.20260101"}}, nil
	}
	return nil, nil
}

func (o offers) LookupSuperNetwork(_ context.Context, partition string) (*metal.Network, error) {
	switch {
	case o.away:
		return nil, errAway
	case partition != "fra-01":
		return nil, nil
	}
	return &metal.Network{Prefixes: []string{"10.0.0.0/16"}, ChildPrefixLengths: map[string]int64{metal.AddressFamilyIPv4: 22}}, nil
}

// LookupAddress knows 203.0.113.0/24, of which 203.0.113.1 is the project's, and
// the range of private networks.
func (o offers) LookupAddress(_ context.Context, address netip.Addr, project string) (*metal.IP, *metal.Network, error) {
	switch {
	case o.away:
		return nil, nil, errAway
	case address == netip.MustParseAddr("203.0.113.1"):
		return &metal.IP{Address: address.String(), Project: project, NetworkID: "internet"}, nil, nil
	case netip.MustParsePrefix("203.0.113.0/24").Contains(address):
		return nil, &metal.Network{ID: "internet"}, nil
	case netip.MustParsePrefix("10.0.0.0/16").Contains(address):
		return nil, &metal.Network{ID: "super", PrivateSuper: true}, nil
	}
	return nil, nil, nil
}

type projects map[string]string

func (b projects) Project(namespace string) (string, bool) { p, ok := b[namespace]; return p, ok }

type oneReferrer Referrer

func (r oneReferrer) Referrer(_ context.Context, _, id string, asking Referrer) (Referrer, bool, error) {
	return Referrer(r), id == machineID && asking != Referrer(r), nil
}

func checks(o offers) *Validator {
	return &Validator{Catalogue: o, Projects: projects{"team-a": project}, Referrers: oneReferrer{"metalstackmachines", "node-1"}}
}

var path = field.NewPath("spec", "x")

func TestValidation_ListsSupportedValues(t *testing.T) {
	t.Parallel()
	c := checks(offers{sizes: []string{"v1-small-x86", "c1-large-x86"}}).Begin(context.Background(), "team-a")
	c.Size(path, "v1-smal-x86", "")
	c.Image(path, "ubuntu-99.04", "", Machine)
	c.Image(path, "firewall-ubuntu-3.0", "", Machine)
	c.Partition(path, "fra-02", "")
	require.Len(t, c.Errors(), 4)
	assert.Equal(t, `spec.x: Unsupported value: "v1-smal-x86": supported values: "c1-large-x86", "v1-small-x86"`, c.Errors()[0].Error())
	assert.Equal(t, `spec.x: Unsupported value: "ubuntu-99.04": supported values: "ubuntu-24.04"`, c.Errors()[1].Error())
	assert.Equal(t, `spec.x: Unsupported value: "firewall-ubuntu-3.0": image does not support the feature "machine"; supported values: "ubuntu-24.04"`, c.Errors()[2].Error())
	assert.Equal(t, `spec.x: Unsupported value: "fra-02": supported values: "fra-01"`, c.Errors()[3].Error())
}

func TestValidation_ListsNearestOfManyValues(t *testing.T) {
	t.Parallel()
	var sizes []string
	for i := range 40 {
		sizes = append(sizes, fmt.Sprintf("a%02d", i))
	}
	sizes = append(sizes, "v1-small-x86")
	c := checks(offers{sizes: sizes}).Begin(context.Background(), "team-a")
	c.Size(path, "v1-smal", "")
	require.Len(t, c.Errors(), 1)
	assert.Contains(t, c.Errors()[0].Error(), `"v1-small-x86"`)
	assert.Contains(t, c.Errors()[0].Error(), "and 26 more")
}

func TestValidation_SkipsUnchangedValues(t *testing.T) {
	t.Parallel()
	c := checks(offers{}).Begin(context.Background(), "team-a")
	c.Size(path, "gone", "gone")
	c.Image(path, "gone", "gone", Machine)
	c.Partition(path, "gone", "gone")
	c.Networks(path, []string{"gone"}, []string{"gone"})
	c.Project(path, "other", "other")
	c.ProviderID(path, "metalstack://"+machineID, "metalstack://"+machineID, Referrer{"metalstackmachines", "node-2"})
	assert.Empty(t, c.Errors())
}

func TestValidation_ForeignNetworksLookLikeUnknownOnes(t *testing.T) {
	t.Parallel()
	o := offers{networks: map[string]string{"mine": project, "internet": "", "theirs": "other"}}
	c := checks(o).Begin(context.Background(), "team-a")
	c.Networks(path, []string{"mine", "internet"}, nil)
	c.PrivateNetwork(path, "mine", "")
	assert.Empty(t, c.Errors())

	c.Network(path, "theirs", "")
	c.Network(path, "unknown", "")
	c.PrivateNetwork(path, "theirs", "")
	c.PrivateNetwork(path, "internet", "")
	require.Len(t, c.Errors(), 4)
	assert.Equal(t, `spec.x: Unsupported value: "theirs": supported values: "internet", "mine"`, c.Errors()[0].Error())
	assert.Equal(t, `spec.x: Unsupported value: "unknown": supported values: "internet", "mine"`, c.Errors()[1].Error())
	assert.Equal(t, c.Errors()[0].Error(), c.Errors()[2].Error())
	assert.Contains(t, c.Errors()[3].Error(), "must be a private network of project")
}

func TestValidation_RefusesProjectOfAnotherNamespace(t *testing.T) {
	t.Parallel()
	c := checks(offers{}).Begin(context.Background(), "team-a")
	c.Project(path, project, "")
	assert.Empty(t, c.Errors())
	c.Project(path, "10000000-0000-4000-8000-00000000000b", "")
	require.Len(t, c.Errors(), 1)
	assert.Contains(t, c.Errors()[0].Error(), `namespace "team-a" is bound to project "`+project+`"`)
}

func TestValidation_RefusesMachineHeldByAnotherObject(t *testing.T) {
	t.Parallel()
	c := checks(offers{machines: map[string]string{machineID: ""}}).Begin(context.Background(), "team-a")
	c.ProviderID(path, "metalstack://"+machineID, "", Referrer{"metalstackmachines", "node-1"})
	assert.Empty(t, c.Errors(), "its own")
	c.ProviderID(path, "metal://fra-01/"+machineID, "", Referrer{"metalstackmachines", "node-2"})
	require.Len(t, c.Errors(), 1)
	assert.Contains(t, c.Errors()[0].Error(), `is already held by metalstackmachines "node-1"`)
}

func TestValidation_ForeignMachinesLookLikeUnknownOnes(t *testing.T) {
	t.Parallel()
	const theirs, unknown, idle, mine = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002", "00000000-0000-4000-8000-000000000003", "00000000-0000-4000-8000-000000000004"
	c := checks(offers{machines: map[string]string{theirs: "other", idle: "", mine: project}}).Begin(context.Background(), "team-a")
	asking := Referrer{"metalstackmachines", "node-2"}
	c.ProviderID(path, "metal:///"+idle, "", asking)
	c.ProviderID(path, "metal:///"+mine, "", asking)
	c.ProviderID(path, "no provider ID", "", asking)
	assert.Empty(t, c.Errors())
	c.ProviderID(path, "metal:///"+theirs, "", asking)
	c.ProviderID(path, "metal:///"+unknown, "", asking)
	require.Len(t, c.Errors(), 2)
	assert.Equal(t, strings.ReplaceAll(c.Errors()[0].Error(), theirs, unknown), c.Errors()[1].Error())
	assert.Contains(t, c.Errors()[0].Error(), `machine `+theirs+` is not available to project "`+project+`"`)
}

func TestValidation_RefusesForeignMetalStackAddresses(t *testing.T) {
	t.Parallel()
	c := checks(offers{}).Begin(context.Background(), "team-a")
	for _, host := range []string{"", "api.example.org", "192.0.2.1", "203.0.113.1"} {
		c.Host(path, host, "")
	}
	c.Host(path, "203.0.113.2", "203.0.113.2")
	assert.Empty(t, c.Errors())
	c.Host(path, "203.0.113.2", "")
	require.Len(t, c.Errors(), 1)
	assert.Contains(t, c.Errors()[0].Error(), `is in network "internet" and not allocated to project "`+project+`"`)
}

func TestCheckHost_RefusesAddressOfForeignPrivateNetworkWithoutNamingIt(t *testing.T) {
	t.Parallel()
	c := checks(offers{}).Begin(context.Background(), "team-a")
	c.Host(path, "10.0.0.7", "")
	require.Len(t, c.Errors(), 1)
	assert.Contains(t, c.Errors()[0].Error(), `is in a metal-stack network and not allocated to project "`+project+`"`)
	assert.NotContains(t, c.Errors()[0].Error(), "super")
}

// busy is a catalogue of which too much is asked.
type busy struct {
	offers
	asked *int
}

func (b busy) LookupNetwork(_ context.Context, id, _ string) (*metal.Network, []string, error) {
	*b.asked++
	return nil, nil, &metal.Error{Kind: metal.Unavailable, Op: "network lookup", Err: &metal.LookupLimitError{Namespace: "team-a", RetryAfter: time.Second}}
}

func TestCheck_NamespaceThatLooksUpTooMuchIsRefusedAtTheFirst(t *testing.T) {
	t.Parallel()
	asked := 0
	o := checks(offers{})
	o.Catalogue = busy{asked: &asked}
	c := o.Begin(context.Background(), "team-a")
	c.Networks(path, []string{"a", "b", "c"}, nil)
	require.Len(t, c.Errors(), 1)
	assert.Contains(t, c.Errors()[0].Error(), "too many lookups of networks, machines and addresses")
	assert.Equal(t, 1, asked)
}

func TestCheck_LooksNothingUpForARequestThatHasEnded(t *testing.T) {
	t.Parallel()
	asked := 0
	o := checks(offers{})
	o.Catalogue = busy{asked: &asked}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := o.Begin(ctx, "team-a")
	c.Networks(path, []string{"a", "b", "c"}, nil)
	c.Size(path, "v1", "")
	require.Len(t, c.Errors(), 1)
	assert.Contains(t, c.Errors()[0].Error(), "spec: Internal error: request ended before validation")
	assert.Zero(t, asked)
}

// recorder keeps warnings.
type recorder []string

func (r *recorder) AddWarning(_, text string) { *r = append(*r, text) }

func TestValidation_WarnsWhileTheMetalAPIIsUnavailable(t *testing.T) {
	t.Parallel()
	var warnings recorder
	ctx := warning.WithWarningRecorder(context.Background(), &warnings)
	c := checks(offers{away: true}).Begin(ctx, "team-a")
	c.Size(field.NewPath("spec", "machineType"), "v9", "")
	c.ProviderID(path, "metal:///"+machineID, "", Referrer{"metalstackmachines", "node-1"})
	c.Host(path, "203.0.113.2", "")
	assert.Empty(t, c.Errors())
	require.Len(t, warnings, 3)
	assert.Equal(t, `spec.machineType: "v9" not validated: metal-api: not reached since 10:00`, warnings[0])
}

func TestAdoption_WarnsOfMachineThatIsNotAsTheSpecSays(t *testing.T) {
	t.Parallel()
	const idle, theirs = "00000000-0000-4000-8000-000000000003", "00000000-0000-4000-8000-000000000001"
	check := func(id, old, machineType, image string) (all []string) {
		var warnings recorder
		ctx := warning.WithWarningRecorder(context.Background(), &warnings)
		c := checks(offers{machines: map[string]string{machineID: project, idle: "", theirs: "other"}}).Begin(ctx, "team-a")
		c.Adoption(path, "metal:///"+id, old, machineType, image)
		assert.Empty(t, c.Errors())
		return warnings
	}
	assert.Empty(t, check(machineID, "", "v1-small-x86", "ubuntu-24.04"))
	assert.Empty(t, check(idle, "", "c1-large-x86", "debian-12"), "the metal-api installs it")
	assert.Empty(t, check(theirs, "", "c1-large-x86", "debian-12"), "nothing is said of other projects' machines")
	assert.Empty(t, check(machineID, "metal:///"+machineID, "c1-large-x86", "debian-12"), "it was named before")
	assert.Equal(t, []string{
		"spec.x: machine " + machineID + ` has size "v1-small-x86", not "c1-large-x86" (machineType), and is adopted as it is: see condition MatchesSpec`,
		"spec.x: machine " + machineID + ` has image "ubuntu-24.04.20260101", not "debian-12" (image), and is adopted as it is: see condition MatchesSpec`,
	}, check(machineID, "", "c1-large-x86", "debian-12"))
}

func TestValidation_PrivateNetworkIsAsThePartitionHasIt(t *testing.T) {
	t.Parallel()
	check := func(o offers, partition, oldPartition string, old *infrastructure.PrivateNetwork) (errs field.ErrorList, all []string) {
		var warnings recorder
		ctx := warning.WithWarningRecorder(context.Background(), &warnings)
		c := checks(o).Begin(ctx, "team-a")
		c.PrivateNetworkSpec(path, nil, nil, "fra-01", "")
		c.PrivateNetworkSpec(path, &infrastructure.PrivateNetwork{AddressFamilies: []string{"IPv6"}}, old, partition, oldPartition)
		return c.Errors(), warnings
	}
	errs, warnings := check(offers{}, "fra-01", "", nil)
	require.Len(t, errs, 1)
	assert.Equal(t, `spec.x.addressFamilies[0]: Unsupported value: "IPv6": supported values: "IPv4"`, errs[0].Error())
	assert.Empty(t, warnings)
	errs, _ = check(offers{}, "fra-01", "fra-02", &infrastructure.PrivateNetwork{AddressFamilies: []string{"IPv6"}})
	assert.Len(t, errs, 1, "another partition has other networks")

	errs, warnings = check(offers{}, "fra-01", "fra-01", &infrastructure.PrivateNetwork{AddressFamilies: []string{"IPv6"}})
	assert.Empty(t, errs, "it was accepted before")
	assert.Empty(t, warnings)
	errs, warnings = check(offers{}, "fra-02", "", nil)
	assert.Empty(t, errs, "nothing is known of the partition's networks")
	assert.Empty(t, warnings)
	errs, warnings = check(offers{away: true}, "fra-01", "", nil)
	assert.Empty(t, errs)
	assert.Equal(t, []string{"spec.x: not validated: metal-api: not reached since 10:00"}, warnings)
}
