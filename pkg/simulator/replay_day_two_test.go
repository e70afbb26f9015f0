// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// TestReplay_Exchanges2 replays what was recorded second: images,
// reinstallation, states, capacity, reservations, constraints, addresses, networks and
// projects, and what is refused. Only recordings are kept that the simulator can be held to.
func TestReplay_Exchanges2(t *testing.T) {
	t.Parallel()
	recordings := slices.DeleteFunc(loadRecordings(t, "testdata/exchanges-2"), func(rec *recording) bool {
		rec.settle = playedHardware
		return notReplayed.MatchString(rec.file)
	})
	require.Greater(t, len(recordings), 400)
	dayTwoScene().play(t, recordings)
}

// notReplayed are recordings that are kept for their messages, and need what the
// simulator does not have: images that are created, size image constraints,
// and machines that are allocated only after these.
var notReplayed = regexp.MustCompile(`^(141|209|21[0-9]|647|675|678)-`)

// dayTwoDataCentre is the one of the second recording: that of the first, with a
// layout that keeps what is on the disk.
func dayTwoDataCentre() *simulator.DataCentre {
	dc := simulator.DefaultDataCentre(8)
	dc.FilesystemLayouts = append(dc.FilesystemLayouts, simulator.FilesystemLayout{
		ID: "manual-keep", Device: "/dev/sda", Keep: true, Sizes: []string{}, Images: map[string]string{},
	})
	dc.Machines = []simulator.Machine{}
	return dc
}

func dayTwoScene() *scene {
	var nsqdIsBack func()
	return &scene{
		name: "day two", from: 1, to: 690, awake: true,
		start: time.Date(2026, 11, 28, 16, 50, 8, 321, time.UTC),
		config: func(testing.TB) simulator.Config {
			return simulator.Config{DataCentre: dayTwoDataCentre(), Lag: lag}
		},
		setups: []setup{
			{before: 80, do: func(_ testing.TB, r *replay) {
				nsqdIsBack = r.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultBackendDown, Backend: "nsq"})
			}},
			{before: 95, do: func(testing.TB, *replay) { nsqdIsBack() }},
			{before: 108, do: func(_ testing.TB, r *replay) { r.sim.SetReasonLength(10) }},
			{before: 115, do: func(_ testing.TB, r *replay) { r.sim.SetReasonLength(0) }},
			// The metal-api was started again, and the waiting machines have asked again.
			{before: 118, at: "2026-11-28T16:53:09.72Z", do: asked("5")},
			{before: 148, at: "2026-11-28T16:53:10.31Z", do: asked("6")},
			{before: 148, at: "2026-11-28T16:53:10.591Z", do: asked("10")},
			{before: 148, at: "2026-11-28T16:53:10.742Z", do: asked("4")},
			{before: 148, at: "2026-11-28T16:53:10.825Z", do: asked("8")},
			{before: 286, do: sentBoot(server("8"))},
			// The second one of them booted, while the call in which it waits went on.
			{before: 323, do: all(sentBoot(server("7")), sent(server("6"), "Crashed", "played crash"), sent(server("7"), "Crashed", ""))},
			{before: 153, do: all(sent(server("6"), "Crashed", "played crash"), sent(server("8"), "PXE Booting", ""))},
		},
	}
}

// sent has a machine send an event that the exchanges before it do not show.
func sent(machine, event, message string) func(testing.TB, *replay) {
	return func(t testing.TB, r *replay) {
		require.NoError(t, r.sim.SendEvent(machine, event, message))
		r.machines.skip(machine, event)
	}
}

// sentBoot has a machine boot until it waits.
func sentBoot(machine string) func(testing.TB, *replay) {
	return all(sent(machine, "PXE Booting", ""), sent(machine, "Preparing", ""), sent(machine, "Registering", ""), sent(machine, "Waiting", ""))
}

// asked has a waiting machine change without a difference.
func asked(n string) func(testing.TB, *replay) {
	id := "00000000-0000-4000-8000-" + strings.Repeat("0", 12-len(n)) + n
	return call("POST", "/v1/machine/"+id+"/state", object{"value": "", "description": ""})
}

// chassis is a tag that machines of the two recordings have different values of.
var chassis = regexp.MustCompile(`^machine\.metal-stack\.io/chassis=`)

// playedHardware takes out of answers what the machines of the second recording,
// which were played, are made of, and what they say of themselves; and the order
// of what has none.
func playedHardware(v any) any {
	everyObject(v, func(o object) {
		if used, ok := o["usedby"].([]any); ok {
			slices.SortFunc(used, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
		}
		if updated, ok := o["updated"].([]any); ok {
			slices.SortFunc(updated, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
		}
		for _, field := range []string{"faultymachines", "othermachines"} {
			if machines, ok := o[field].([]any); ok {
				slices.SortFunc(machines, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
			}
		}
		if servers, ok := o["servers"].([]any); ok {
			slices.SortFunc(servers, func(a, b any) int {
				return strings.Compare(a.(object)["size"].(string), b.(object)["size"].(string))
			})
		}
		if ipmi, ok := o["ipmi"].(object); ok {
			for _, field := range []string{"address", "mac", "user", "password", "fru", "bmcversion"} {
				delete(ipmi, field)
			}
		}
		if _, isMachine := o["hardware"]; !isMachine {
			return
		}
		for _, field := range []string{"bios", "hardware", "events", "ledstate"} {
			delete(o, field)
		}
		if state, ok := o["state"].(object); ok {
			delete(state, "metal_hammer_version")
		}
		if a, ok := o["allocation"].(object); ok {
			delete(a, "boot_info")
		}
		if tags, ok := o["tags"].([]any); ok {
			o["tags"] = slices.DeleteFunc(slices.Clone(tags), func(tag any) bool { return chassis.MatchString(tag.(string)) })
		}
	})
	return v
}

// TestReinstall_NSQDOutageLeavesMachineMarked: of what fails only when
// the event cannot be published, a part is done.
func TestReinstall_NSQDOutageLeavesMachineMarked(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	net := r.privateNetwork(t, nil)
	id := r.must(t, "POST", "/v1/machine/allocate", byID(server("1"), net))["id"].(string)
	r.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultBackendDown, Backend: "nsq"})
	status, _, message := r.try(t, "POST", "/v1/machine/"+id+"/reinstall", object{"id": id, "imageid": "ubuntu-24.04.20250701"})
	assert.Equal(t, 422, status)
	assert.Contains(t, message, "cannot publish delete event")
	allocation := r.must(t, "GET", "/v1/machine/"+id, nil)["allocation"].(object)
	assert.Equal(t, true, allocation["reinstall"])
	assert.Equal(t, "ubuntu-24.04.20250701", allocation["image"].(object)["id"])
	status, _, _ = r.try(t, "DELETE", "/v1/machine/"+id+"/free", nil)
	assert.Equal(t, 422, status)
	assert.NotNil(t, r.must(t, "GET", "/v1/machine/"+id, nil)["allocation"], "a free has done nothing")
}
