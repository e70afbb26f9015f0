// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

const (
	projectA = "10000000-0000-4000-8000-00000000000a"
	projectB = "10000000-0000-4000-8000-00000000000b"
	projectC = "c58aab82-d49e-45c5-81b2-fa54240d0c89" // created by 053
	netA     = "31d19564-d8c5-4884-b2e6-91154d9852e6" // allocated by 073
	netA4    = "d0ed5b67-711c-4496-a252-d9165d8815b8" // allocated by 074
	netB     = "82a1fd54-cbfc-4be1-bc7f-cf233c3fd781" // allocated by 075
)

// server is the id of the recordings' nth machine.
func server(n string) string { return "00000000-0000-4000-8000-00000000000" + n }

// lag is how long after an answer the recorded server was still at work.
const lag = 2 * time.Millisecond

// object is a JSON object.
type object = map[string]any

// call is a set-up by one request.
func call(method, path string, body any) func(testing.TB, *replay) {
	return func(t testing.TB, r *replay) { r.ask(t, method, path, body) }
}

// called is a request whose answer's id stands for a recorded one.
func called(id, method, path string, body any) func(testing.TB, *replay) {
	return func(t testing.TB, r *replay) {
		answer := r.ask(t, method, path, body)
		require.NoError(t, r.comparer.names.learn(id, answer["id"].(string)))
	}
}

// booted lets a machine come back to waiting.
func booted(id string) func(testing.TB, *replay) {
	return func(t testing.TB, r *replay) {
		for _, event := range []string{"PXE Booting", "Preparing", "Registering", "Waiting"} {
			require.NoError(t, r.sim.SendEvent(id, event, ""))
		}
	}
}

func all(steps ...func(testing.TB, *replay)) func(testing.TB, *replay) {
	return func(t testing.TB, r *replay) {
		for _, step := range steps {
			step(t, r)
		}
	}
}

// changes are what the recorder did to a request on purpose, as the names
// of the recordings say.
var changes = map[string]func(*http.Request){
	"auth-bearer-garbage":   func(r *http.Request) { r.Header.Set("Authorization", "Bearer abc.def.ghi") },
	"auth-old-timestamp":    func(r *http.Request) { sign(r, "Metal-Admin", "metal-admin", time.Now().Add(-5*time.Minute)) },
	"auth-future-timestamp": func(r *http.Request) { sign(r, "Metal-Admin", "metal-admin", time.Now().Add(5*time.Minute)) },
	"auth-wrong-key":        func(r *http.Request) { sign(r, "Metal-Admin", "wrong", time.Now()) },
	"reinstall-no-body":     withContentType,
	"network-find-no-body":  withContentType,

	"capacity-no-body": withContentType,

	"power-on-no-body":              withContentType,
	"power-off-no-body":             withContentType,
	"led-on-no-description":         withContentType,
	"led-off-no-description":        withContentType,
	"ipmi-find-no-body":             withContentType,
	"issues-evaluate-no-body":       withContentType,
	"power-on-body-no-content-type": func(r *http.Request) { r.Header.Del("Content-Type") },
	"content-type-missing":          func(r *http.Request) { r.Header.Del("Content-Type") },
}

// withContentType says what the body would be, which is not there.
func withContentType(r *http.Request) { r.Header.Set("Content-Type", "application/json") }

// ownEvents are the events of exchanges whose own answer shows them.
var ownEvents = map[string]string{"machine-power-off": "Planned Reboot"}

// exception is a difference that is accepted, with its reason.
type exception struct {
	recordings *regexp.Regexp
	reason     string
	settle     func(any) any
}

// settled takes out of an answer what is not to be compared.
func settled(rec *recording, v any) any {
	for _, e := range exceptions {
		if e.recordings.MatchString(rec.file) {
			v = e.settle(v)
		}
	}
	if rec.settle != nil {
		v = rec.settle(v)
	}
	return v
}

// same makes fields equal that differ by nature.
func same(fields ...string) func(any) any {
	return func(v any) any {
		everyObject(v, func(o object) {
			for _, f := range fields {
				if _, ok := o[f].(string); ok {
					o[f] = "any"
				}
			}
		})
		return v
	}
}

var exceptions = []exception{
	{regexp.MustCompile(`^00[12]-version$`), "a simulator is no build of the metal-api", same("version", "revision", "gitsha1")},
	{regexp.MustCompile(`-consolepassword(-|$)`), "what a machine makes up", same("console_password")},
	{regexp.MustCompile(`^385-`), "which network of a list fails first is left to chance", func(v any) any {
		return regexp.MustCompile(`cidr:[^ ]+`).ReplaceAllString(v.(string), "cidr:any")
	}},
}

// picks are the machines that allocations took which failed later, so that
// their answers do not show.
var picks = map[int]string{182: server("3"), 389: server("6")}

func scenes() []*scene {
	return []*scene{firstScene(), livelinessScene()}
}

// firstScene is most of what was recorded, in one data centre.
func firstScene() *scene {
	ip := func(address string) func(testing.TB, *replay) { return call("DELETE", "/v1/ip/free/"+address, nil) }
	par := func(name, n string) func(testing.TB, *replay) {
		body := byID(server(n), netA)
		body["name"], body["hostname"], body["tags"] = "par-"+name, "x", []any{"cluster=par"}
		return call("POST", "/v1/machine/allocate", body)
	}
	free := func(n string) func(testing.TB, *replay) {
		return call("DELETE", "/v1/machine/"+server(n)+"/free", nil)
	}
	backend := func(name string, first, next int) []setup {
		var restore func()
		return []setup{
			{before: first, do: func(t testing.TB, r *replay) {
				restore = r.sim.Inject(simulator.Fault{Endpoint: "*", Kind: simulator.FaultBackendDown, Backend: name})
			}},
			{before: next, do: func(testing.TB, *replay) { restore() }},
		}
	}
	s := &scene{
		name: "a data centre from its first day", from: 1, to: 520,
		start: time.Date(2026, 11, 22, 13, 55, 57, 321, time.UTC),
		config: func(t testing.TB) simulator.Config {
			return simulator.Config{DataCentre: recordedDataCentre(t), Lag: lag}
		},
		setups: []setup{
			// What the experiment 066 left behind: one of eight updates was accepted.
			{before: 67, do: call("POST", "/v1/project", object{"name": "team-c", "tenant_id": "acme",
				"meta": object{"id": projectC, "version": 52, "annotations": object{"w2": "1"}}})},
			// Another client had a static address in net-a4 while 109 and 110 were made.
			{before: 109, do: call("POST", "/v1/ip/allocate", object{"networkid": netA4, "projectid": projectA, "type": "static"})},
			{before: 111, do: ip("10.0.4.1")},
			// The addresses of the small network were given back.
			{before: 137, do: all(ip("198.51.100.1"), ip("198.51.100.2"))},
			// All addresses were given back, and two allocated.
			{before: 250, at: "2026-11-22T13:56:10.09Z", do: all(
				ip("203.0.113.129"), ip("203.0.113.131"), ip("203.0.113.200"), ip("2001:db8:0:113::1"),
				call("POST", "/v1/ip", object{"ipaddress": "203.0.113.130", "tags": []any{}}), ip("203.0.113.130"),
				call("POST", "/v1/ip/allocate", object{"name": "lb", "networkid": "internet-fra-01", "projectid": projectA,
					"type": "static", "tags": []any{"cluster=c1"}}),
				call("POST", "/v1/ip/allocate", object{"networkid": "internet-fra-01", "projectid": projectB, "type": "static"}),
			)},
			// The experiment 233 updated the tags of machine 4 twelve times.
			{before: 234, at: "2026-11-22T13:56:04.71Z", do: call("POST", "/v1/machine", object{"id": server("4"),
				"tags": []any{"a", "b", "cluster=c1", "z=1", "y=2"}})},
			// Repeated and unknown events leave no entry in a log.
			{before: 215, at: "2026-11-22T13:56:04.5Z", do: func(t testing.TB, r *replay) {
				require.NoError(t, r.sim.SendEvent(server("4"), "Phoned Home", ""))
			}},
			{before: 218, do: func(t testing.TB, r *replay) {
				require.Error(t, r.sim.SendEvent(server("4"), "No Such Event", ""))
			}},
			{before: 213, at: "2026-11-22T13:56:03.358Z", do: func(t testing.TB, r *replay) {
				require.NoError(t, r.sim.ReportInstalled(server("4")))
			}},
			// Machine 1 was locked while it waited, and unlocked before it was freed.
			{before: 266, at: "2026-11-22T13:56:18.3Z", do: call("POST", "/v1/machine/"+server("1")+"/state",
				object{"value": "LOCKED", "description": "do not touch"})},
			{before: 267, at: "2026-11-22T13:56:18.4Z", do: all(
				call("POST", "/v1/machine/"+server("1")+"/state", object{"value": ""}), free("1"), booted(server("1")),
			)},
			{before: 278, unless: 277, do: call("POST", "/v1/machine/allocate", byID(server("8"), netA))},
			// What the experiment 274 left behind.
			{before: 278, at: "2026-11-22T13:56:24.666Z", do: call("POST", "/v1/network", object{"id": netA, "labels": object{"w6": "1"}})},
			// 305 took a machine before 306 did.
			{before: 306, unless: 305, at: "2026-11-22T13:56:27.36Z", do: call("POST", "/v1/machine/allocate", object{"uuid": server("3"),
				"projectid": projectB, "imageid": "ubuntu-24.04", "networks": []any{object{"networkid": netB}}})},
			{before: 283, do: all(free("7"), free("8"), ip("203.0.113.129"), ip("203.0.113.130"))},
		},
	}
	s.setups = append(s.setups, quotaSetups()...)
	s.setups = append(s.setups,
		setup{before: 326, do: all(booted(server("7")), booted(server("8")))},
		// What the experiment 342 left behind: six machines, in the order of their addresses.
		setup{before: 343, at: "2026-11-22T13:57:06.82Z", do: all(
			par("0", "5"), par("4", "4"), par("5", "6"), par("2", "3"), par("3", "1"), par("1", "2"),
		)},
		setup{before: 372, do: all(free("2"), free("3"), free("4"), free("5"))},
	)
	s.setups = append(s.setups, backend("masterdata", 372, 381)...)
	s.setups = append(s.setups, backend("ipam", 381, 390)...)
	s.setups = append(s.setups, backend("nsq", 390, 400)...)
	s.setups = append(s.setups, backend("rethinkdb", 400, 511)...)
	s.setups = append(s.setups,
		setup{before: 511, do: func(t testing.TB, r *replay) {
			for _, n := range r.sim.Inventory().Networks {
				if n.Name == "outage" {
					r.ask(t, "DELETE", "/v1/network/free/"+n.ID, nil)
				}
			}
		}},
	)
	return s
}

// quotaSetups are what happened between the recordings about quotas, which
// were made of both versions.
func quotaSetups() []setup {
	return []setup{
		{before: 319, do: func(t testing.TB, r *replay) { require.NoError(t, r.sim.SetLegacyQuota(projectB, 1)) }},
		{before: 312, do: call("DELETE", "/v1/ip/free/203.0.113.129", nil)},
	}
}

func livelinessScene() *scene {
	const net = "8fb5fa59-6aa7-426a-abe0-5f71d7f5235b"
	return &scene{
		name: "two machines fall silent", from: 530, to: 536,
		start: time.Date(2026, 11, 22, 14, 13, 45, 321, time.UTC),
		config: func(t testing.TB) simulator.Config {
			return simulator.Config{DataCentre: recordedDataCentre(t), Lag: lag}
		},
		setups: []setup{
			{before: 530, at: "2026-11-22T14:13:59.17Z", do: all(
				called(net, "POST", "/v1/network/allocate", object{"projectid": projectA, "partitionid": "fra-01", "addressfamily": "IPv4"}),
				call("POST", "/v1/machine/allocate", object{"uuid": server("1"), "name": "live", "hostname": "x", "imageid": "ubuntu-24.04",
					"projectid": projectA, "networks": []any{object{"networkid": net}}}),
			)},
			{before: 532, at: "2026-11-22T14:19:33.1Z", do: func(t testing.TB, r *replay) { r.sim.RunLiveliness() }},
			{before: 536, at: "2026-11-22T14:19:33.249Z", do: func(t testing.TB, r *replay) {
				require.NoError(t, r.sim.SendEvent(server("1"), "Phoned Home", ""))
			}},
		},
	}
}

func sceneOfVersion0431() *scene {
	network := func(id, project string) func(testing.TB, *replay) {
		body := object{"projectid": project, "partitionid": "fra-01", "addressfamily": "IPv4"}
		if id == "" {
			return call("POST", "/v1/network/allocate", body)
		}
		return called(id, "POST", "/v1/network/allocate", body)
	}
	return &scene{
		name: "quotas of v0.43.1", from: 303, to: 325,
		start: time.Date(2026, 11, 22, 13, 50, 56, 321, time.UTC),
		config: func(t testing.TB) simulator.Config {
			return simulator.Config{DataCentre: recordedDataCentre(t), Version: "v0.43.1", Lag: lag}
		},
		setups: append(quotaSetups(), setup{before: 303, at: "2026-11-22T13:50:57Z", do: all(
			network("", projectA), network("", projectA), network("04bef659-98cf-4cee-9bc1-dd9e3ea3ae8e", projectB),
		)}),
	}
}
