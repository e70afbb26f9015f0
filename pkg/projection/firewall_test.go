// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"encoding/json"
	"math"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apifuzzer "k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/fuzzer"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// runningFirewall is a firewall's machine that runs.
func runningFirewall() *metal.Machine {
	m := phonedHome()
	m.Allocation.Role, m.Allocation.Hostname, m.Allocation.Image = metal.RoleFirewall, "fw-1-abcde", "firewall-ubuntu-3.0.20260101"
	m.Allocation.Networks = []metal.MachineNetwork{
		{NetworkID: "underlay", Type: "underlay", Underlay: true, ASN: 4200000001, IPs: []string{"10.1.0.1"}, Prefixes: []string{"10.1.0.0/24"}},
		{
			NetworkID: "private", Type: "privateprimaryunshared", Private: true, ASN: 4200000001, VRF: 35,
			IPs: []string{"10.0.0.1"}, Prefixes: []string{"10.0.0.0/22"},
		},
		{
			NetworkID: "internet", Type: "external", NAT: true, ASN: 4200000001, VRF: 104009,
			IPs: []string{"100.64.0.9"}, Prefixes: []string{"100.64.0.0/20"}, DestinationPrefixes: []string{"::/0", "0.0.0.0/0"},
		},
	}
	return m
}

// firewallOf is the record of a firewall with a controller.
func firewallOf(m *metal.Machine) *infrastructure.MetalStackFirewall {
	began := metav1.NewTime(time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC))
	return &infrastructure.MetalStackFirewall{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespaceA, Name: "fw-1", UID: "uid-of-fw", ResourceVersion: "42", Generation: 3, CreationTimestamp: began,
			Labels: map[string]string{"cluster.x-k8s.io/cluster-name": "c"}, Annotations: map[string]string{"firewall-controller.metal-stack.io/restart": "sshd"},
			Finalizers: []string{infrastructure.FirewallFinalizer}, OwnerReferences: []metav1.OwnerReference{{Name: "c"}},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}},
		},
		Spec: infrastructure.MetalStackFirewallSpec{
			Image: "firewall-ubuntu-3.0", MachineType: "v1-small-x86", Partition: "fra-01",
			SSHKeys: []string{"ssh-ed25519 AAAA a"}, Controller: &infrastructure.FirewallController{},
		},
		Status: infrastructure.MetalStackFirewallStatus{Allocation: &infrastructure.MachineAllocation{
			AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated, Attempt: 1, UID: "uid-of-fw", StartTime: &began},
			MachineID:       m.ID, AllocationUUID: m.AllocationUUID(),
		}},
	}
}

func (f *fixture) shownFirewall(record *infrastructure.MetalStackFirewall) *infrastructure.MetalStackFirewall {
	f.t.Helper()
	return NewFirewallProjector(f.source).Project(record, nil).(*infrastructure.MetalStackFirewall)
}

// configured is the configuration with every field.
func configured() *infrastructure.FirewallController {
	return &infrastructure.FirewallController{
		Interval: &metav1.Duration{Duration: time.Minute}, Version: "v2.4.1", URL: "https://example.org/fc",
		RateLimits:       []infrastructure.FirewallRateLimit{{NetworkID: "internet", Rate: 10}},
		EgressIPs:        []infrastructure.FirewallEgressIPs{{NetworkID: "internet", IPs: []string{"100.64.0.10"}}},
		InternalPrefixes: []string{"10.0.0.0/8"},
		AllowedNetworks:  infrastructure.FirewallAllowedNetworks{Ingress: []string{"100.64.0.0/20"}, Egress: []string{"0.0.0.0/0"}},
		DNSServer:        "1.1.1.1", LogAcceptedConnections: true,
		NftablesExporter: infrastructure.FirewallNftablesExporter{Version: "v0.3.0", URL: "https://example.org/exporter"},
		SilenceTimeout:   &metav1.Duration{Duration: time.Hour},
	}
}

// The names are those of firewall-controller-manager's types.
func TestFirewall_IsWhatFirewallControllerDecodes(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	m := runningFirewall()
	b.facts.machines[m.ID] = m
	record := firewallOf(m)
	record.Spec.Controller = configured()
	record.Status.Distance = 3
	record.Status.WorkloadAccess = &infrastructure.FirewallWorkloadAccess{
		KubeconfigSecretName: "c-firewall-workload-config", TokenSecretName: "c-firewall-workload-token", APIServerURL: "https://100.64.0.1:6443",
	}
	firewall := Firewall(b.shownFirewall(record))
	require.NotNil(t, firewall)
	require.Positive(t, firewall.Generation)
	firewall.Generation = 0
	got, err := json.Marshal(firewall)
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"metadata": {
			"name": "fw-1-abcde", "namespace": "team-a", "uid": "uid-of-fw", "resourceVersion": "42", "creationTimestamp": "2026-11-22T13:00:00Z",
			"labels": {"cluster.x-k8s.io/cluster-name": "c"}
		},
		"spec": {
			"size": "v1-small-x86", "image": "firewall-ubuntu-3.0.20260101", "partition": "fra-01", "project": "`+projectA+`",
			"networks": ["internet", "private"], "sshPublicKeys": ["ssh-ed25519 AAAA a"], "interval": "1m0s",
			"rateLimits": [{"networkID": "internet", "rate": 10}], "egressRules": [{"networkID": "internet", "ips": ["100.64.0.10"]}],
			"internalPrefixes": ["10.0.0.0/8"], "allowedNetworks": {"ingress": ["100.64.0.0/20"], "egress": ["0.0.0.0/0"]},
			"controllerVersion": "v2.4.1", "controllerURL": "https://example.org/fc",
			"nftablesExporterVersion": "v0.3.0", "nftablesExporterURL": "https://example.org/exporter",
			"dnsServerAddress": "1.1.1.1", "logAcceptedConnections": true
		},
		"status": {
			"machineStatus": {
				"machineID": "`+machineID+`", "allocationTimestamp": "2026-11-22T13:56:03Z", "liveliness": "Alive",
				"lastEvent": {"event": "Phoned Home", "timestamp": "2026-11-22T13:58:03Z", "message": ""}
			},
			"firewallNetworks": [
				{"networkID": "internet", "networkType": "external", "asn": 4200000001, "vrf": 104009, "nat": true,
					"ips": ["100.64.0.9"], "prefixes": ["100.64.0.0/20"], "destinationPrefixes": ["0.0.0.0/0", "::/0"]},
				{"networkID": "private", "networkType": "privateprimaryunshared", "asn": 4200000001, "vrf": 35, "nat": false,
					"ips": ["10.0.0.1"], "prefixes": ["10.0.0.0/22"]},
				{"networkID": "underlay", "networkType": "underlay", "asn": 4200000001, "vrf": 0, "nat": false,
					"ips": ["10.1.0.1"], "prefixes": ["10.1.0.0/24"]}
			],
			"shootAccess": {
				"genericKubeconfigSecretName": "c-firewall-workload-config", "tokenSecretName": "c-firewall-workload-token",
				"namespace": "team-a", "apiServerURL": "https://100.64.0.1:6443"
			}
		},
		"distance": 3
	}`, string(got))
}

func TestFirewall_ExistsWhileItsMachineIsHeld(t *testing.T) {
	t.Parallel()
	access := &infrastructure.FirewallManagementAccess{URL: "https://management", ServiceAccountUID: "u"}
	for name, c := range map[string]struct {
		change func(*infrastructure.MetalStackFirewall)
		exists bool
	}{
		"allocated": {func(*infrastructure.MetalStackFirewall) {}, true},
		"releasing": {func(f *infrastructure.MetalStackFirewall) {
			f.Status.Allocation.Phase = infrastructure.AllocationReleasing
		}, true},
		"being deleted":        {func(f *infrastructure.MetalStackFirewall) { f.DeletionTimestamp = &f.CreationTimestamp }, true},
		"controller removed":   {func(f *infrastructure.MetalStackFirewall) { f.Spec.Controller, f.Status.ManagementAccess = nil, access }, true},
		"never had controller": {func(f *infrastructure.MetalStackFirewall) { f.Spec.Controller = nil }, false},
		"not allocated":        {func(f *infrastructure.MetalStackFirewall) { f.Status.Allocation = nil }, false},
		"allocating": {func(f *infrastructure.MetalStackFirewall) {
			f.Status.Allocation.Phase = infrastructure.AllocationAllocating
		}, false},
		"released": {func(f *infrastructure.MetalStackFirewall) {
			f.Status.Allocation.Phase = infrastructure.AllocationReleased
		}, false},
		"allocation gone": {func(f *infrastructure.MetalStackFirewall) { f.Status.Allocation.AllocationUUID = "another" }, false},
	} {
		b := newFixture(t)
		m := runningFirewall()
		b.facts.machines[m.ID] = m
		record := firewallOf(m)
		c.change(record)
		shown := b.shownFirewall(record)
		assert.Equal(t, c.exists, Firewall(shown) != nil, name)
		assert.Equal(t, c.exists, FirewallName(shown) != "", name)
		assert.False(t, IsFirewallUnknown(shown), name)
		withTypes := slices.ContainsFunc(shown.Status.Metal.Networks, func(n infrastructure.MetalNetwork) bool { return n.Type != "" || n.DestinationPrefixes != nil })
		if c.exists {
			assert.True(t, withTypes, name)
		}
		if record.Spec.Controller == nil && record.Status.ManagementAccess == nil {
			assert.False(t, withTypes, "%s: a firewall without a controller is shown as ever", name)
		}
	}
}

func TestFirewall_UnobservedMetalIsKnownToBeUnknown(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	m := runningFirewall()
	record := firewallOf(m)
	restarted := b.shownFirewall(record)
	assert.True(t, IsFirewallUnknown(restarted), "not observed since the server started")
	assert.Nil(t, Firewall(restarted))

	b.facts.machines[m.ID] = m
	shown := b.shownFirewall(record)
	want := Firewall(shown)
	delete(b.facts.machines, m.ID)
	kept := NewFirewallProjector(b.source).Project(record, shown).(*infrastructure.MetalStackFirewall)
	assert.False(t, IsFirewallUnknown(kept))
	assert.Equal(t, want, Firewall(kept), "what was observed is kept")

	record.Status.Allocation.Phase = infrastructure.AllocationReleasing
	kept = NewFirewallProjector(b.source).Project(record, kept).(*infrastructure.MetalStackFirewall)
	assert.False(t, IsFirewallUnknown(kept))
	assert.Equal(t, want, Firewall(kept), "while it is released, too")
	assert.Equal(t, infrastructure.PhaseReleasing, kept.Status.Metal.Phase)
	restarted = b.shownFirewall(record)
	assert.True(t, IsFirewallUnknown(restarted), "releasing, and not observed since the server started")
	assert.Nil(t, Firewall(restarted))
	again := NewFirewallProjector(b.source).Project(record, restarted).(*infrastructure.MetalStackFirewall)
	assert.True(t, IsFirewallUnknown(again), "as long as it is not")

	freed := runningFirewall()
	freed.Allocation = nil
	b.facts.machines[m.ID] = freed
	kept = NewFirewallProjector(b.source).Project(record, kept).(*infrastructure.MetalStackFirewall)
	assert.False(t, IsFirewallUnknown(kept), "its machine was freed")
	assert.Nil(t, Firewall(kept))
	assert.Equal(t, b.shownFirewall(record).Status.Metal, kept.Status.Metal, "what is known does not depend on what was shown")
	record.Status.Allocation.Phase = infrastructure.AllocationReleased
	kept = NewFirewallProjector(b.source).Project(record, kept).(*infrastructure.MetalStackFirewall)
	assert.False(t, IsFirewallUnknown(kept))
	assert.Nil(t, Firewall(kept))
}

func TestFirewall_OfMachineThatIsNotAdoptedYetIsUnknown(t *testing.T) {
	t.Parallel()
	refused := []metav1.Condition{{Type: infrastructure.ConditionAllocated, Status: metav1.ConditionFalse, Reason: infrastructure.ReasonAllocationRefused}}
	for name, c := range map[string]struct {
		change  func(*infrastructure.MetalStackFirewall)
		unknown bool
	}{
		"restored": {func(f *infrastructure.MetalStackFirewall) { f.Status.Allocation = nil }, true},
		"waiting": {func(f *infrastructure.MetalStackFirewall) {
			f.Status.Allocation = &infrastructure.MachineAllocation{AllocationState: infrastructure.AllocationState{Attempt: 1}}
		}, true},
		"allocating": {func(f *infrastructure.MetalStackFirewall) {
			f.Status.Allocation = &infrastructure.MachineAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocating}}
		}, true},
		"refused": {func(f *infrastructure.MetalStackFirewall) { f.Status.Allocation, f.Status.Conditions = nil, refused }, false},
		"being deleted": {func(f *infrastructure.MetalStackFirewall) {
			f.Status.Allocation, f.DeletionTimestamp = nil, &f.CreationTimestamp
		}, false},
		"without provider ID": {func(f *infrastructure.MetalStackFirewall) { f.Status.Allocation, f.Spec.ProviderID = nil, "" }, false},
		"without controller":  {func(f *infrastructure.MetalStackFirewall) { f.Status.Allocation, f.Spec.Controller = nil, nil }, false},
		"released before it had any": {func(f *infrastructure.MetalStackFirewall) {
			f.Status.Allocation = &infrastructure.MachineAllocation{AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationReleasing}}
		}, false},
	} {
		b := newFixture(t)
		m := runningFirewall()
		record := firewallOf(m)
		record.Spec.ProviderID = "metal://fra-01/" + m.ID
		c.change(record)
		assert.Equal(t, c.unknown, IsFirewallUnknown(b.shownFirewall(record)), name)
	}
}

// firewall-controller makes no rules at all if one is about a network that it does not know.
func TestFirewall_HasRulesOfNetworksOnlyThatItsMachineHasJoined(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	m := runningFirewall()
	b.facts.machines[m.ID] = m
	record := firewallOf(m)
	record.Spec.Controller = configured()
	want := Firewall(b.shownFirewall(record)).Spec
	require.Len(t, want.RateLimits, 1)
	require.Len(t, want.EgressRules, 1)
	c := record.Spec.Controller
	c.RateLimits = append(c.RateLimits, infrastructure.FirewallRateLimit{NetworkID: "mpls", Rate: 1})
	c.EgressIPs = append([]infrastructure.FirewallEgressIPs{{NetworkID: "mpls", IPs: []string{"100.65.0.1"}}}, c.EgressIPs...)
	assert.Equal(t, want, Firewall(b.shownFirewall(record)).Spec)
}

func TestFirewall_GenerationChangesWithWhatControllersReadOnly(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	m := runningFirewall()
	b.facts.machines[m.ID] = m
	generation := func(change func(*infrastructure.MetalStackFirewall)) int64 {
		record := firewallOf(m)
		record.Spec.Controller = configured()
		shown := b.shownFirewall(record)
		change(shown)
		return Firewall(shown).Generation
	}
	seen := map[int64]string{generation(func(*infrastructure.MetalStackFirewall) {}): "unchanged"}
	for name, change := range map[string]func(*infrastructure.MetalStackFirewall){
		"distance":       func(f *infrastructure.MetalStackFirewall) { f.Status.Distance = 8 },
		"interval":       func(f *infrastructure.MetalStackFirewall) { f.Spec.Controller.Interval.Duration++ },
		"rate limit":     func(f *infrastructure.MetalStackFirewall) { f.Spec.Controller.RateLimits[0].Rate++ },
		"egress address": func(f *infrastructure.MetalStackFirewall) { f.Spec.Controller.EgressIPs[0].IPs[0] = "100.64.0.11" },
		"network":        func(f *infrastructure.MetalStackFirewall) { f.Status.Metal.Networks[0].Prefixes[0] = "100.64.0.0/19" },
		"SSH key":        func(f *infrastructure.MetalStackFirewall) { f.Spec.SSHKeys[0] += "b" },
		"access": func(f *infrastructure.MetalStackFirewall) {
			f.Status.WorkloadAccess = &infrastructure.FirewallWorkloadAccess{APIServerURL: "https://a"}
		},
	} {
		g := generation(change)
		assert.Empty(t, seen[g], name)
		seen[g] = name
	}
	for name, change := range map[string]func(*infrastructure.MetalStackFirewall){
		"revision": func(f *infrastructure.MetalStackFirewall) { f.ResourceVersion, f.Generation = "43", 4 },
		"liveliness": func(f *infrastructure.MetalStackFirewall) {
			f.Status.Metal.Liveliness, f.Status.Metal.LastEvent = "Unknown", nil
		},
		"report": func(f *infrastructure.MetalStackFirewall) {
			f.Status.Controller = &infrastructure.FirewallControllerStatus{Version: "v1"}
		},
		"timeout": func(f *infrastructure.MetalStackFirewall) { f.Spec.Controller.SilenceTimeout = nil },
	} {
		assert.Equal(t, "unchanged", seen[generation(change)], name)
	}
}

func TestFirewall_HasOnlyWhatControllersCanDecode(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	m := runningFirewall()
	b.facts.machines[m.ID] = m
	record := firewallOf(m)
	for rate, want := range map[int64]int64{-1: 0, 0: 0, math.MaxUint32: math.MaxUint32, math.MaxInt64: math.MaxUint32} {
		record.Spec.Controller.RateLimits = []infrastructure.FirewallRateLimit{{NetworkID: "internet", Rate: rate}}
		assert.Equal(t, want, Firewall(b.shownFirewall(record)).Spec.RateLimits[0].Rate)
	}
	assert.Equal(t, "10s", Firewall(b.shownFirewall(record)).Spec.Interval, "an empty one is no duration")
}

// Objects of the view are shared.
func TestFirewall_SharesNothingWithItsOrigin(t *testing.T) {
	t.Parallel()
	filler := apifuzzer.FuzzerFor(apifuzzer.MergeFuzzerFuncs(metafuzzer.Funcs, fuzzer.Funcs), rand.NewSource(1), scheme.Codecs)
	for range 200 {
		origin := fuzzedFirewall(filler.Fill)
		before := origin.DeepCopy()
		firewall := Firewall(origin)
		require.NotNil(t, firewall)
		same := firewall.DeepCopy()
		filler.Fill(origin)
		assert.Equal(t, same, firewall)

		origin = before.DeepCopy()
		firewall = Firewall(origin)
		firewall.Labels["a"] = "b"
		for _, list := range [][]string{firewall.Spec.SSHPublicKeys, firewall.Spec.InternalPrefixes, firewall.Spec.AllowedNetworks.Ingress} {
			for i := range list {
				list[i] = "changed"
			}
		}
		for _, n := range firewall.Status.FirewallNetworks {
			*n.NetworkID = "changed"
			for i := range n.IPs {
				n.IPs[i] = "changed"
			}
		}
		assert.Equal(t, before, origin)
	}
}

// A Firewall is the same on every server, whether its record was just written or loaded.
func TestFirewall_IsTheSameAfterRoundTrip(t *testing.T) {
	t.Parallel()
	filler := apifuzzer.FuzzerFor(apifuzzer.MergeFuzzerFuncs(metafuzzer.Funcs, fuzzer.Funcs), rand.NewSource(2), scheme.Codecs)
	through := func(obj runtime.Object) []byte {
		encoded, err := runtime.Encode(scheme.StorageCodec, obj)
		require.NoError(t, err)
		return encoded
	}
	for range 200 {
		origin := fuzzedFirewall(filler.Fill)
		decoded, err := runtime.Decode(scheme.StorageCodec, through(origin))
		require.NoError(t, err)
		want, err := json.Marshal(Firewall(origin))
		require.NoError(t, err)
		got, err := json.Marshal(Firewall(decoded.(*infrastructure.MetalStackFirewall)))
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(got))

		read := &firewallv2.Firewall{}
		require.NoError(t, json.Unmarshal(got, read))
		again, err := json.Marshal(read)
		require.NoError(t, err)
		require.JSONEq(t, string(got), string(again))
	}
}

// fuzzedFirewall is a random MetalStackFirewall that has a Firewall.
func fuzzedFirewall(fill func(any)) *infrastructure.MetalStackFirewall {
	f := &infrastructure.MetalStackFirewall{}
	fill(f)
	f.TypeMeta = metav1.TypeMeta{}
	if f.Spec.Controller == nil {
		f.Status.ManagementAccess = &infrastructure.FirewallManagementAccess{}
	}
	if f.Status.Allocation == nil {
		f.Status.Allocation = &infrastructure.MachineAllocation{}
	}
	f.Status.Allocation.Phase = infrastructure.AllocationAllocated
	if f.Status.Metal == nil {
		f.Status.Metal = &infrastructure.Metal{}
	}
	f.Status.Metal.Hostname = "fw"
	if c := f.Spec.Controller; c != nil {
		for _, limit := range c.RateLimits {
			f.Status.Metal.Networks = append(f.Status.Metal.Networks, infrastructure.MetalNetwork{ID: limit.NetworkID})
		}
		for _, egress := range c.EgressIPs {
			f.Status.Metal.Networks = append(f.Status.Metal.Networks, infrastructure.MetalNetwork{ID: egress.NetworkID})
		}
	}
	f.Labels = map[string]string{"a": "a"}
	return f
}
