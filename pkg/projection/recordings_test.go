// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
)

// recorded is a machine as a real metal-api showed it.
func recorded(t testing.TB, name string) *metal.Machine { return recordedIn(t, "exchanges", name) }

func recordedIn(t testing.TB, folder, name string) *metal.Machine {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "simulator", "testdata", folder, name+"-*.json"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	data, err := os.ReadFile(files[0])
	require.NoError(t, err)
	var exchange struct {
		Body json.RawMessage `json:"response_body"`
	}
	require.NoError(t, json.Unmarshal(data, &exchange))
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("[" + string(exchange.Body) + "]"))
	}))
	defer api.Close()
	client, err := metalclient.New(metalclient.Options{URL: api.URL, HMAC: "none"})
	require.NoError(t, err)
	found, err := client.FindMachines(context.Background(), metal.MachineQuery{ID: "any"})
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

func TestMachineProjector_RecordedMachines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		recording, phase string
		status           metav1.ConditionStatus
		reason           string
	}{
		{"205", infrastructure.PhaseAllocating, metav1.ConditionFalse, infrastructure.ReasonProvisioning},
		{"207", infrastructure.PhaseAllocating, metav1.ConditionFalse, infrastructure.ReasonProvisioning},
		{"211", "Installing", metav1.ConditionFalse, infrastructure.ReasonProvisioning},
		{"213", "Booting New Kernel", metav1.ConditionFalse, infrastructure.ReasonProvisioning},
		{"214", infrastructure.PhasePhonedHome, metav1.ConditionTrue, infrastructure.ReasonPhonedHome},
		{"215", infrastructure.PhasePhonedHome, metav1.ConditionTrue, infrastructure.ReasonPhonedHome},
		{"216", "Crashed", metav1.ConditionFalse, infrastructure.ReasonProvisioning},
		{"217", infrastructure.PhasePhonedHome, metav1.ConditionTrue, infrastructure.ReasonPhonedHome},
		{"267", "Planned Reboot", metav1.ConditionFalse, infrastructure.ReasonProvisioning},
		// Its log still holds the events of the allocation before.
		{"271", infrastructure.PhaseAllocating, metav1.ConditionFalse, infrastructure.ReasonProvisioning},
		{"281", infrastructure.PhaseAllocating, metav1.ConditionFalse, infrastructure.ReasonProvisioning},
		{"532", infrastructure.PhasePhonedHome, metav1.ConditionUnknown, infrastructure.ReasonUnreachable},
		// Dead, and in a loop before that.
		{"535", infrastructure.PhaseAllocating, metav1.ConditionFalse, infrastructure.ReasonCrashLoop},
		{"536", infrastructure.PhasePhonedHome, metav1.ConditionTrue, infrastructure.ReasonPhonedHome},
	} {
		t.Run(c.recording, func(t *testing.T) {
			t.Parallel()
			b := newFixture(t)
			m := recorded(t, c.recording)
			b.facts.machines[m.ID] = m
			shown := b.project(b.allocated(m), nil)
			assert.Equal(t, c.phase, shown.Status.Metal.Phase)
			ready := readyOf(t, shown)
			assert.Equal(t, c.status, ready.Status, ready.Message)
			assert.Equal(t, c.reason, ready.Reason)
			assert.NotEmpty(t, ready.Message)
			assert.Equal(t, c.status == metav1.ConditionTrue, shown.Status.Ready)
			assert.False(t, ready.LastTransitionTime.IsZero())
			assert.Equal(t, "fra-01", shown.Status.FailureDomain)
			assert.True(t, shown.Status.Metal.Managed)
		})
	}
}

func TestFirewallProjector_SortsAddresses(t *testing.T) {
	t.Parallel()
	b := newFixture(t)
	m := recorded(t, "292")
	b.facts.machines[m.ID] = m
	addresses := Addresses(m)
	require.Greater(t, len(addresses), 3)
	assert.Equal(t, infrastructure.MachineHostName, addresses[0].Type)
	assert.Equal(t, infrastructure.MachineInternalDNS, addresses[1].Type)
	assert.Equal(t, addresses[0].Address, addresses[1].Address)
	of := map[string]infrastructure.MachineAddressType{}
	for _, a := range addresses[2:] {
		of[a.Address] = a.Type
	}
	for _, n := range m.Allocation.Networks {
		for _, ip := range n.IPs {
			switch {
			case n.Underlay:
				assert.NotContains(t, of, ip)
			case n.Private:
				assert.Equal(t, infrastructure.MachineInternalIP, of[ip])
			default:
				assert.Equal(t, infrastructure.MachineExternalIP, of[ip])
			}
		}
	}
	// The metal-api's order is random.
	shuffled := *m
	allocation := *m.Allocation
	shuffled.Allocation = &allocation
	allocation.Networks = nil
	for i := range m.Allocation.Networks {
		n := m.Allocation.Networks[len(m.Allocation.Networks)-1-i]
		n.IPs = append([]string(nil), n.IPs...)
		for x, y := 0, len(n.IPs)-1; x < y; x, y = x+1, y-1 {
			n.IPs[x], n.IPs[y] = n.IPs[y], n.IPs[x]
		}
		allocation.Networks = append(allocation.Networks, n)
	}
	assert.Equal(t, addresses, Addresses(&shuffled))
	assert.Equal(t, Metal(m, true), Metal(&shuffled, true))

	obj, refs := NewFirewallProjector(b.source).Discovered(metal.Ref{Kind: metal.KindMachine, ID: m.ID})
	f, ok := obj.(*infrastructure.MetalStackFirewall)
	require.True(t, ok)
	assert.Equal(t, m.ID, f.Name)
	assert.Equal(t, namespaceA, f.Namespace)
	assert.False(t, f.Status.Metal.Managed)
	assert.Empty(t, f.OwnerReferences)
	assert.Empty(t, f.Finalizers)
	assert.Equal(t, []metal.Ref{{Kind: metal.KindAllocation, ID: m.Allocation.UUID}}, refs)
	none, _ := NewMachineProjector(b.source).Discovered(metal.Ref{Kind: metal.KindMachine, ID: m.ID})
	assert.Nil(t, none, "a firewall is not shown as a machine")
}
