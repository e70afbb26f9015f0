// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// point is one thing that goes wrong at one step, by name.
type point struct {
	name string
	// when it is prepared: before anything is allocated, before all of it is
	// released, or when everything is there.
	when string
	// prepare lets it happen, and returns whether it has.
	prepare func(env *environment) (happened func() bool)
	// except are invariants that this is about to break: a duplicate that a
	// test makes is one.
	except []string
}

const (
	allocating = "allocating"
	releasing  = "releasing"
	between    = "between"
)

// detours are what has to go wrong for the protocol to come to a step at all.
var detours = map[string]simulator.Fault{
	"machine/refused":         {Endpoint: "machine-allocate", Kind: simulator.FaultStatus, Status: http.StatusUnprocessableEntity, Message: "no machine available"},
	"machine/uncertain":       {Endpoint: "machine-allocate", Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "bad gateway"},
	"machine/free-uncertain":  {Endpoint: "machine-free", Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "bad gateway"},
	"network/uncertain":       {Endpoint: "network-allocate", Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "bad gateway"},
	"network/free-uncertain":  {Endpoint: "network-free", Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "bad gateway"},
	"address/uncertain":       {Endpoint: "ip-allocate", Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "bad gateway"},
	"address/free-uncertain":  {Endpoint: "ip-free", Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "bad gateway"},
	"machine/release-refused": {Endpoint: "machine-free", Kind: simulator.FaultStatus, Status: http.StatusUnprocessableEntity, Message: "machine is locked"},
	"cluster/release-refused": {Endpoint: "ip-free", Kind: simulator.FaultStatus, Status: http.StatusBadRequest, Message: "ip with machine scope can not be deleted"},
	"cluster/refused":         {Endpoint: "network-allocate", Kind: simulator.FaultStatus, Status: http.StatusBadRequest, Message: "no supernetwork found"},
}

// released are the steps that come with a release.
func released(step string) bool {
	return strings.HasPrefix(step, "service-address/") || strings.Contains(step, "free") || strings.Contains(step, "releas") || strings.Contains(step, "empty") || strings.Contains(step, "held")
}

// stepPoints let a server die, lose its Lease or stand still after each step.
func stepPoints() (points []point) {
	for _, step := range everyStep() {
		for _, do := range []string{trapKill, trapCut, trapStop} {
			p := point{name: do + " at " + step, when: allocating}
			if released(step) {
				p.when = releasing
			}
			trapped := func(env *environment) func() bool {
				env.traps.add(trap{step: step, do: do})
				return func() bool { return env.traps.has(step) }
			}
			p.prepare = trapped
			switch detour, needed := detours[step]; {
			case needed:
				p.prepare = func(env *environment) func() bool {
					detour.Times = 1
					env.inject(detour)
					return trapped(env)
				}
			case step == "machine/found":
				p.prepare = func(env *environment) func() bool {
					env.loseAnAttempt()
					return trapped(env)
				}
			case step == "service-address/begun" || step == "service-address/called":
				p.when = between
				p.prepare = func(env *environment) func() bool {
					sprung := trapped(env)
					env.eventually(func() string { return env.requestServiceAddress("web") })
					require.Len(env.t, env.addressesFor("web"), 1, "the Service has one address, however often it was asked for")
					return sprung
				}
			case strings.HasPrefix(step, "service-address/"):
				p.prepare = func(env *environment) func() bool {
					_, err := env.allocateServiceAddress(metal.TypeStatic, "web")
					require.NoError(env.t, err)
					address, err := env.allocateServiceAddress(metal.TypeEphemeral, "web")
					require.NoError(env.t, err)
					if step == "service-address/free-uncertain" {
						env.inject(simulator.Fault{
							Endpoint: "ip-free", Kind: simulator.FaultStatus, Status: http.StatusBadGateway, Message: "bad gateway", Times: 1,
							Match: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/"+address) },
						})
					}
					return trapped(env)
				}
			case strings.HasPrefix(step, "duplicate/"):
				p.when, p.except = between, []string{"no two for one uid"}
				p.prepare = func(env *environment) func() bool {
					env.makeADuplicate()
					return trapped(env)
				}
			}
			points = append(points, p)
		}
	}
	return points
}

// metalCalls are the calls that change metal.
var metalCalls = []string{"network-allocate", "ip-allocate", "firewall-allocate", "machine-allocate", "machine-free", "ip-free", "network-free", updateCall}

// updateCall takes the tag of a Service off an address.
const updateCall = "ip-update"

// callPoints let each call to the metal-api go wrong in each way.
func callPoints() (points []point) {
	for _, call := range metalCalls {
		late := simulator.Fault{Kind: simulator.FaultCommitThenLate, Latency: 5*time.Minute + 25*time.Second}
		if strings.HasSuffix(call, "free") {
			late.Latency = 2*time.Minute + 25*time.Second
		}
		faults := map[string]simulator.Fault{
			"is refused":                           {Kind: simulator.FaultRefused},
			"hangs":                                {Kind: simulator.FaultHang},
			"is answered 422 for an outage":        {Kind: simulator.FaultStatus, Status: 422, Message: "rpc error: code = Unavailable desc = connection error: dial tcp: connection refused"},
			"is answered 422 for an unknown error": {Kind: simulator.FaultStatus, Status: 422, Message: "something that nobody has seen before"},
			"is answered 500":                      {Kind: simulator.FaultStatus, Status: 500, Message: "rethinkdb: connection closed"},
			"is answered 409":                      {Kind: simulator.FaultStatus, Status: 409, Message: "the entity was changed from another, please retry"},
			"is answered 429":                      {Kind: simulator.FaultStatus, Status: 429, Message: "slow down"},
			"is done, and its answer lost":         {Kind: simulator.FaultCommitThenLose},
			"is done, and its answer cut":          {Kind: simulator.FaultTruncatedBody},
			"is done late":                         {Kind: simulator.FaultCommitThenLate, Latency: 20 * time.Second},
			"is done after its caller gave up":     late,
			"is done, and answered late":           {Kind: simulator.FaultLateAnswer, Latency: 20 * time.Second},
			"is done, and its caller killed":       {Kind: simulator.FaultLateAnswer, Latency: 20 * time.Second},
			"is slow":                              {Kind: simulator.FaultLatency, Latency: 50 * time.Second},
			"is late, and its caller killed":       {Kind: simulator.FaultCommitThenLate, Latency: 20 * time.Second},
			"is slow, and its caller killed":       {Kind: simulator.FaultLatency, Latency: 20 * time.Second},
			"is late, and the Lease lost":          {Kind: simulator.FaultCommitThenLate, Latency: 20 * time.Second},
			"meets a masterdata that is down":      {Kind: simulator.FaultBackendDown, Backend: "masterdata"},
			"meets an ipam that is down":           {Kind: simulator.FaultBackendDown, Backend: "ipam"},
			"meets a database that is down":        {Kind: simulator.FaultBackendDown, Backend: "rethinkdb"},
			"meets a message queue that is down":   {Kind: simulator.FaultBackendDown, Backend: "nsq"},
			"is made while finds are cut short":    {Kind: simulator.FaultCommitThenLose},
			"is made while finds show all but it":  {Kind: simulator.FaultCommitThenLose},
		}
		for _, phase := range simulator.Phases[call] {
			faults["loses its caller in "+phase] = simulator.Fault{Kind: simulator.FaultClientGone, Phase: phase}
		}
		for words, fault := range faults {
			points = append(points, callPoint(call, words, fault))
		}
	}
	return points
}

func callPoint(call, words string, fault simulator.Fault) point {
	p := point{name: call + " " + words, when: allocating}
	if released(call) || call == updateCall {
		p.when = releasing
	}
	p.prepare = func(env *environment) func() bool {
		if call == updateCall {
			_, err := env.allocateServiceAddress(metal.TypeStatic, "web")
			require.NoError(env.t, err)
		}
		var struck atomic.Bool
		fault.Endpoint, fault.Times = call, 1
		fault.Match = func(*http.Request) bool {
			struck.Store(true)
			s := env.active()
			switch {
			case s == nil:
			case strings.Contains(words, "killed"):
				time.AfterFunc(time.Second, s.kill)
			case strings.Contains(words, "Lease"):
				env.lease.cutOff(s.name, 2*leaseDuration)
			case strings.Contains(words, "finds are cut"):
				go env.inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultTruncatedBody, Times: 6})
			case strings.Contains(words, "all but it"):
				go env.inject(simulator.Fault{Endpoint: "machine-find", Kind: simulator.FaultStatus, Status: 503, Message: "no", Times: 6})
			}
			return true
		}
		env.inject(fault)
		return struck.Load
	}
	return p
}

// writesTried is how many writes to the ledger are let go wrong one after the
// other, from the first of an allocation, and of a release.
const writesTried = 10

// writePoints let each write to the ledger go wrong in each way.
func writePoints() (points []point) {
	for _, when := range []string{allocating, releasing} {
		for n := range writesTried {
			for _, how := range []string{writeRefused, writeLost, writeLate, "crash before", "crash after"} {
				points = append(points, writePoint(when, n, how))
			}
		}
	}
	return points
}

func writePoint(when string, n int, how string) point {
	name := ordinals[n] + " write while " + when + ": " + how
	return point{name: name, when: when, prepare: func(env *environment) func() bool {
		if step, crash := strings.CutPrefix(how, "crash "); crash {
			env.traps.add(trap{step: "ledger/" + step, skip: n, do: trapKill})
			return func() bool { return env.traps.has("ledger/" + step) }
		}
		env.records.fail(append(make([]string, n), how)...)
		return func() bool { return env.records.none() }
	}}
}

var ordinals = []string{"first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"}
