// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/metal-stack/metal-go/api/models"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
)

// Every recorded machine is read as metal-go's models read it.
func TestMachineDecoder_AgreesWithMetalGo(t *testing.T) {
	n, failed := 0, 0
	for _, r := range recorded(t) {
		if r.Status/100 != 2 || !strings.HasPrefix(r.Path, "/v1/machine") && !strings.HasPrefix(r.Path, "/v1/firewall") {
			continue
		}
		body := r.Body
		if !bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
			body = slices.Concat([]byte("["), body, []byte("]"))
		}
		var all []*models.V1MachineResponse
		if json.Unmarshal(body, &all) != nil || slices.ContainsFunc(all, func(m *models.V1MachineResponse) bool { return m == nil || deref(m.ID) == "" || m.State == nil }) {
			continue // an event's answer, or a password
		}
		var l machineDecoder
		require.NoError(t, l.decodeList(newMachineReader(bytes.NewReader(body))), r.name)
		require.Len(t, l.machines, len(all))
		for i, m := range all {
			n++
			f := l.machines[i]
			require.Equal(t, *m.ID, f.ID)
			require.Equal(t, m.Rackid, f.Rack)
			require.Equal(t, deref(m.Liveliness), f.Liveliness)
			require.Equal(t, deref(m.State.Value), f.State)
			require.ElementsMatch(t, m.Tags, f.Tags)
			require.Equal(t, toTime(m.Changed), f.Changed)
			require.Equal(t, toTime(m.Events.LastEventTime), f.LastEventTime)
			if e := m.Events.LastErrorEvent; e == nil {
				require.Nil(t, f.LastError)
			} else {
				failed++
				require.Equal(t, &metal.Event{Event: deref(e.Event), Message: e.Message, Time: toTime(e.Time)}, f.LastError)
			}
			require.Len(t, f.Events, len(m.Events.Log))
			for j, e := range m.Events.Log {
				require.Equal(t, metal.Event{Event: deref(e.Event), Message: e.Message, Time: toTime(e.Time)}, f.Events[j])
			}
			if m.Size != nil {
				require.Equal(t, deref(m.Size.ID), f.Size)
			}
			if m.Partition != nil {
				require.Equal(t, deref(m.Partition.ID), f.Partition)
			}
			a := m.Allocation
			require.Equal(t, a == nil, f.Allocation == nil)
			if a == nil {
				continue
			}
			g := f.Allocation
			require.Equal(t, []string{*a.Allocationuuid, *a.Project, *a.Name, *a.Hostname, *a.Role, *a.Image.ID, *a.Creator},
				[]string{g.UUID, g.Project, g.Name, g.Hostname, g.Role, g.Image, g.Creator})
			require.Equal(t, toTime(*a.Created), g.Created)
			require.Len(t, g.Networks, len(a.Networks))
			for _, n := range a.Networks {
				require.Contains(t, g.Networks, metal.MachineNetwork{
					NetworkID: *n.Networkid, IPs: nilIfEmpty(n.Ips), Prefixes: nilIfEmpty(n.Prefixes), ASN: *n.Asn, VRF: *n.Vrf,
					NAT: *n.Nat, Private: *n.Private, Underlay: *n.Underlay,
					Type: deref(n.Networktype), DestinationPrefixes: nilIfEmpty(n.Destinationprefixes),
				})
			}
		}
	}
	require.Greater(t, n, 90)
	require.Positive(t, failed)
}

func TestMachineDecoder_WriteAnswerEqualsNextRead(t *testing.T) {
	read := map[string]*metal.Machine{}
	for _, r := range recorded(t) {
		if number := r.name[:3]; slices.Contains([]string{"205", "206", "291", "293"}, number) {
			var l machineDecoder
			require.NoError(t, l.decodeOne(newMachineReader(bytes.NewReader(r.Body))), r.name)
			read[number] = l.machine()
		}
	}
	for write, next := range map[string]string{"205": "206", "291": "293"} {
		a, b := *read[write], *read[next]
		// Milliseconds later the machine fetches its allocation, which moves it.
		require.WithinDuration(t, a.Changed, b.Changed, 100*time.Millisecond)
		a.Changed = b.Changed
		require.Equal(t, b, a)
	}
}

func TestMachineDecoder_DropsTimesThatCannotBeEncoded(t *testing.T) {
	for _, text := range []string{"9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.9999Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:00"} {
		var l machineDecoder
		require.NoError(t, l.decodeOne(newMachineReader(strings.NewReader(`{"id":"a","changed":"`+text+`"}`))))
		require.Zero(t, l.machine().Changed, text)
	}
}

func TestMachineDecoder_ErrorQuotesNoValue(t *testing.T) {
	t.Parallel()
	var l machineDecoder
	err := l.decodeOne(newMachineReader(strings.NewReader(`{"id":"m1","allocation":{"networks":[{"asn":"the-secret"}]}}`)))
	require.ErrorContains(t, err, "/allocation/networks/0/asn")
	require.NotContains(t, err.Error(), "secret")
}

// machineEntries are answers that have little in common.
func machineEntries() []string {
	return []string{
		`{"id":"m1","tags":["a","b"],"rackid":"r","liveliness":"Alive","state":{"value":"LOCKED","description":"x"},"events":{"log":[` +
			`{"event":"E1","message":"M1","time":"2026-01-01T00:00:00Z"},{"event":"E2","message":"M2","time":"2026-01-02T00:00:00Z"}],"last_error_event":{"event":"E1"},"crash_loop":true},` +
			`"allocation":{"allocationuuid":"a1","project":"p","networks":[{"networkid":"n","ips":["1.2.3.4","1.2.3.5"],"prefixes":["10.0.0.0/8"],"asn":1,"nat":true}]}}`,
		`{"id":"m2","events":{"log":[{"time":"2026-01-03T00:00:00Z"}]},"allocation":{"networks":[{"ips":["1.2.3.6"]}]}}`,
		`{"id":"m3"}`,
		`{"id":"m4","tags":null,"events":{"log":null},"allocation":null}`,
		`{"id":"m5","tags":["c"],"events":{"log":[{"event":"E3"},{"message":"M3"},{}]},"allocation":{}}`,
	}
}

// TestMachineGet_SharesNothingWithOthers: gets, which use buffers of others again, answer
// what is decoded alone, also after answers that are cut short or wrong, and keep it.
func TestMachineGet_SharesNothingWithOthers(t *testing.T) {
	t.Parallel()
	var gets errgroup.Group
	for worker := range 4 {
		gets.Go(func() error {
			api := &answering{status: http.StatusOK}
			c := api.client(t)
			var got, want []*metal.Machine
			for round := range 100 {
				for i, entry := range machineEntries() {
					var one machineDecoder
					if err := one.decodeOne(newMachineReader(strings.NewReader(entry))); err != nil {
						return err
					}
					want = append(want, one.machine())
					api.body = []byte(entry)
					m, err := c.Machine(t.Context(), metaltest.NoSuchID)
					if err != nil {
						return err
					}
					got = append(got, m)
					api.body = []byte([]string{entry[:(worker+round+i)%len(entry)], entry + "x", `{"id":"x","tags":["y"],"allocation":3}`, ""}[(worker+round)%4])
					if m, err := c.Machine(t.Context(), metaltest.NoSuchID); err == nil || m != nil {
						return fmt.Errorf("%s: %v, %v", api.body, m, err)
					}
				}
			}
			if !reflect.DeepEqual(want, got) {
				return errors.New("an answer changed, or has something of another one")
			}
			return nil
		})
	}
	require.NoError(t, gets.Wait())
}

func TestMachineDecoder_EntriesOfAListShareNothing(t *testing.T) {
	t.Parallel()
	entries := machineEntries()
	var list machineDecoder
	require.NoError(t, list.decodeList(newMachineReader(strings.NewReader("["+strings.Join(entries, ",")+"]"))))
	require.Len(t, list.machines, len(entries))
	for i, entry := range entries {
		var one machineDecoder
		require.NoError(t, one.decodeOne(newMachineReader(strings.NewReader(entry))))
		require.Equal(t, one.machine(), list.machines[i])
	}
	require.Equal(t, []string{"a", "b"}, list.machines[0].Tags)
	require.Equal(t, "M2", list.machines[0].Events[1].Message)
}

func TestImageAlias(t *testing.T) {
	require.Equal(t, "a-b-1.0", imageAlias("a-b-1.0.1"))
	require.Equal(t, "nodash", imageAlias("nodash"))
}
