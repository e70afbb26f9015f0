// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	networkapi "github.com/metal-stack/metal-go/api/client/network"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/metal-stack/security"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// TestMachineAllocate_AddressesReturnWithFree: a machine gets its network and
// addresses, and they are free again after its free.
func TestMachineAllocate_AddressesReturnWithFree(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	nw := s.makeNetwork(simulator.ProjectA)
	m := s.mustAllocate(wanted(nw, "a=b"))
	require.Contains(t, m.Tags, "a=b")
	require.Equal(t, []string{"10.0.0.1", "2001:db8:0:10::1"}, m.Allocation.Networks[0].Ips)
	require.NoError(t, s.Sim.PhoneHome(*m.ID))

	require.NoError(t, s.free(*m.ID))
	_, err := s.Edit.Network().FreeNetwork(networkapi.NewFreeNetworkParams().WithID(nw), nil)
	require.NoError(t, err)
	require.Empty(t, s.Sim.Inventory().IPs)
	require.Equal(t, 1, s.Sim.Inventory().Allocations("a=b"))
	require.Equal(t, 1, s.Sim.Inventory().Frees("a=b"))
}

// TestMachineGet_IsWhatWritesAnswer: a get, which encodes a machine once, has the bytes of
// a write's answer, before and after changes, but for the fractions of the time of the write.
func TestMachineGet_IsWhatWritesAnswer(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	m := s.mustAllocate(wanted(s.makeNetwork(simulator.ProjectA), "a=<\n b>"))
	mac := security.NewHMACAuth("Metal-Admin", []byte(simulator.DefaultHMAC.Admin))
	call := func(method, path, body string) string {
		t.Helper()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		mac.AddAuth(r, time.Now(), nil)
		w := httptest.NewRecorder()
		s.Sim.Handler().ServeHTTP(w, r)
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		answer := w.Body.String()
		return answer[:strings.LastIndex(answer, `"changed":`)]
	}
	get := func() string { return call(http.MethodGet, "/v1/machine/"+*m.ID, "") }
	update := func(description string) string {
		return call(http.MethodPost, "/v1/machine", fmt.Sprintf(`{"id":%q,"description":%q}`, *m.ID, description))
	}
	before := get()
	require.Equal(t, update("first"), get())
	require.NotEqual(t, before, get())
	require.Equal(t, update("second \n  line"), get())
	require.NoError(t, s.Sim.PhoneHome(*m.ID))
	require.Equal(t, update("third"), get())
	require.Equal(t, get(), get())
}

// TestMachineTags_AreUniqueByKey: tags that the metal-api sets itself take
// precedence.
func TestMachineTags_AreUniqueByKey(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	m := s.mustAllocate(wanted(s.makeNetwork(simulator.ProjectA), "k=1", "k=2", "plain", "plain", "machine.metal-stack.io/rack=fake"))
	require.ElementsMatch(t, []string{
		"k=2", "plain", "machine.metal-stack.io/rack=" + m.Rackid,
		"machine.metal-stack.io/chassis=chassis-" + (*m.ID)[35:], "machine.metal-stack.io/network.primary.asn=4210000020",
	}, m.Tags)
}

// TestMachineUpdate_ReplacesTags: an update replaces all tags, one with an
// empty list none, and a free clears them.
func TestMachineUpdate_ReplacesTags(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	m := s.mustAllocate(wanted(s.makeNetwork(simulator.ProjectA), "old"))
	require.NoError(t, s.Sim.SetTags(*m.ID, []string{"new"}))
	require.Contains(t, s.get(*m.ID).Tags, "new")
	require.NotContains(t, s.get(*m.ID).Tags, "old")
	require.NoError(t, s.Sim.SetTags(*m.ID, nil))
	require.Contains(t, s.get(*m.ID).Tags, "new")
	require.NoError(t, s.free(*m.ID))
	require.Empty(t, s.get(*m.ID).Tags)
}

// TestMachineFind_MatchesAllTags: find matches whole tags, all of them, and
// lists firewalls too.
func TestMachineFind_MatchesAllTags(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	nw := s.makeNetwork(simulator.ProjectA)
	m := s.mustAllocate(wanted(nw, "cluster=c1", "x"))
	fw, err := s.allocateFirewall(nw)
	require.NoError(t, err)
	require.Len(t, s.find(&models.V1MachineFindRequest{Tags: []string{"cluster=c1", "x"}}), 1)
	require.Empty(t, s.find(&models.V1MachineFindRequest{Tags: []string{"cluster"}}))
	require.Empty(t, s.find(&models.V1MachineFindRequest{Tags: []string{"cluster=c1", "y"}}))
	var ids []string
	for _, f := range s.find(&models.V1MachineFindRequest{AllocationProject: simulator.ProjectA}) {
		ids = append(ids, *f.ID)
	}
	require.ElementsMatch(t, []string{*m.ID, *fw.ID}, ids)
	require.Len(t, fw.Allocation.Networks, 3, "the server adds the underlay")
}

// TestTimestamps_OfWritesHaveNanoseconds: later reads have milliseconds.
func TestTimestamps_OfWritesHaveNanoseconds(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	m := s.mustAllocate(wanted(s.makeNetwork(simulator.ProjectA)))
	read := s.get(*m.ID)
	written, kept := time.Time(*m.Allocation.Created), time.Time(*read.Allocation.Created)
	require.NotEqual(t, written, kept)
	require.True(t, kept.Equal(written.Round(time.Millisecond)))
}

// TestMachineAllocate_ByIDTakesAnyFreeMachine: locked, reserved, dead and just
// freed machines are allocated by id.
func TestMachineAllocate_ByIDTakesAnyFreeMachine(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	nw := s.makeNetwork(simulator.ProjectA)
	ids := s.Sim.MachineIDs()
	require.NoError(t, s.Sim.Lock(ids[0], "mine"))
	require.NoError(t, s.Sim.Reserve(ids[1], "mine"))
	require.NoError(t, s.free(ids[2]))
	for _, id := range ids[:3] {
		r := wanted(nw)
		r.UUID, r.Sizeid, r.Partitionid = id, ref(""), ref("")
		m := s.mustAllocate(r)
		require.Equal(t, id, *m.ID)
	}
	r := wanted(nw)
	r.UUID = ids[0]
	_, err := s.allocate(r)
	refused(t, err, 422, "machine is already allocated")
}

// TestMachineAllocate_BySizeTakesAvailableMachine: only a waiting, alive,
// unreserved and unlocked machine is allocated by size.
func TestMachineAllocate_BySizeTakesAvailableMachine(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	nw := s.makeNetwork(simulator.ProjectA)
	ids := s.Sim.MachineIDs() // six of them are small
	require.NoError(t, s.Sim.Lock(ids[0], "x"))
	require.NoError(t, s.Sim.Reserve(ids[1], "x"))
	require.NoError(t, s.free(ids[2]), "free an unallocated machine: 200, and it leaves the pool")
	require.NoError(t, s.Sim.DropEventContainer(ids[3]))
	require.NoError(t, s.Sim.SendEvent(ids[4], "PXE Booting", ""))
	m := s.mustAllocate(wanted(nw))
	require.Equal(t, ids[5], *m.ID)
	_, err := s.allocate(wanted(nw))
	refused(t, err, 422, "no machine available")
	require.NoError(t, s.Sim.Recycle(ids[2]))
	require.Equal(t, ids[2], *s.mustAllocate(wanted(nw)).ID)
}

func TestPlacementTags_SpreadOverRacks(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{Seed: 7})
	nw := s.makeNetwork(simulator.ProjectA)
	racks := map[string]int{}
	for range 6 {
		r := wanted(nw, "cluster=c1")
		r.PlacementTags = []string{"cluster=c1"}
		racks[s.mustAllocate(r).Rackid]++
	}
	require.Equal(t, map[string]int{"fra-01-rack-01": 3, "fra-01-rack-02": 3}, racks)
}

func TestMachineFree_LockedIsRefused(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	m := s.mustAllocate(wanted(s.makeNetwork(simulator.ProjectA)))
	require.NoError(t, s.Sim.Lock(*m.ID, "mine"))
	refused(t, s.free(*m.ID), 422, "machine is locked")
	require.NoError(t, s.Sim.Unlock(*m.ID))
	require.NoError(t, s.free(*m.ID))
	require.NoError(t, s.free(*m.ID), "twice: 200")
}

func TestMachineNames_AreNotUnique(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	nw := s.makeNetwork(simulator.ProjectA)
	require.NotEqual(t, *s.mustAllocate(wanted(nw)).ID, *s.mustAllocate(wanted(nw)).ID)
	require.NotEqual(t, nw, s.makeNetwork(simulator.ProjectA))
}

func TestMachineFree_KeepsStaticAddresses(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	nw := s.makeNetwork(simulator.ProjectA)
	address, err := s.Sim.AllocateIPFor(simulator.ProjectA, simulator.InternetNetwork, "lb", []string{"x"})
	require.NoError(t, err)
	r := wanted(nw)
	r.Ips = []string{address}
	r.Networks = append(r.Networks, &models.V1MachineAllocationNetwork{Networkid: ref(simulator.InternetNetwork), Autoacquire: ref(false)})
	m, again := s.mustAllocate(r), s.mustAllocate(r)
	require.NoError(t, s.free(*m.ID))
	ips := s.Sim.Inventory().IPs
	require.Len(t, ips, 3)
	require.Equal(t, []string{"machine.metal-stack.io/id=" + *again.ID, "x"}, ips[0].Tags)
	require.NoError(t, s.free(*again.ID))
	require.Equal(t, []string{"x"}, s.Sim.Inventory().IPs[0].Tags)
	require.Len(t, s.Sim.Inventory().IPs, 1)
}

// TestQuota_CountsFirewalls: an empty quota is none up to version 0.43.3.
func TestQuota_CountsFirewalls(t *testing.T) {
	t.Parallel()
	s := newLab(t, simulator.Config{})
	nw := s.makeNetwork(simulator.ProjectA)
	require.NoError(t, s.Sim.SetLegacyQuota(simulator.ProjectA, 1))
	s.mustAllocate(wanted(nw))
	s.mustAllocate(wanted(nw))
	_, err := s.allocateFirewall(nw)
	require.NoError(t, err)
	_, err = s.allocate(wanted(nw))
	refused(t, err, 422, "project quota for machines reached max:1")

	for version, broken := range map[string]bool{"v0.43.1": true, "v0.43.3": true, "v0.43.4": false, "": false} {
		s := newLab(t, simulator.Config{Version: version})
		nw := s.makeNetwork(simulator.ProjectA)
		s.mustAllocate(wanted(nw))
		postBackTheProject(t, s)
		_, err := s.allocate(wanted(nw))
		if broken {
			refused(t, err, 422, "project quota for machines reached max:0")
		} else {
			require.NoError(t, err, version)
		}
	}
}
