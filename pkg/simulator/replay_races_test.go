// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// 066 and 335: a project update is not a compare-and-swap. Of parallel ones
// with one version more than one may be accepted, and one of them is stored.
func TestReplay066_ProjectUpdatesInParallel(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	both := 0
	for version := range 30 {
		send := r.atOnce
		if version%2 == 0 {
			// The second one comes while the first is between its look at the version and its write.
			r.sim.SetCosts(true)
			send = r.atOnceWhileTimePasses
		}
		outcomes := send(t, 2, func(i int) (string, string, any) {
			return "POST", "/v1/project", object{
				"name": "team-a", "tenant_id": "acme",
				"meta": object{"id": projectA, "version": version, "annotations": object{fmt.Sprintf("w%d", i): "1"}},
			}
		})
		r.sim.SetCosts(false)
		accepted := count(outcomes, 200)
		assert.Positive(t, accepted)
		for _, o := range outcomes {
			if o.status != 200 {
				assert.Equal(t, 422, o.status)
				assert.Contains(t, o.message, "optimistic lock error updating project")
			}
		}
		if accepted == 2 {
			both++
		}
		meta := r.must(t, "GET", "/v1/project/"+projectA, nil)["meta"].(object)
		assert.Equal(t, fmt.Sprint(version+1), fmt.Sprint(meta["version"]))
		assert.Len(t, meta["annotations"], 1, "one update is stored whole")
	}
	assert.Positive(t, both, "in some rounds both are accepted")
}

// 273, 274, 275: of eight parallel updates of one entity one or two succeed.
// The others get the answer that it was changed by another.
func TestReplay273_UpdatesInParallel(t *testing.T) {
	t.Parallel()
	for file, one := range map[string]func(id string, i int) (string, object){
		"273-machine-update-parallel": func(id string, i int) (string, object) {
			return "/v1/machine", object{"id": id, "tags": []any{fmt.Sprintf("w%d", i)}}
		},
		"274-network-update-parallel": func(id string, i int) (string, object) {
			return "/v1/network", object{"id": id, "labels": object{fmt.Sprintf("w%d", i): "1"}}
		},
		"275-ip-update-parallel": func(id string, i int) (string, object) {
			return "/v1/ip", object{"ipaddress": id, "tags": []any{fmt.Sprintf("w%d", i)}}
		},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			var recorded struct {
				Sample struct{ Message string } `json:"sample_error"`
			}
			experiment(t, file, &recorded)
			r := laboratory(t, simulator.Config{})
			network := r.privateNetwork(t, nil)
			ids := map[string]string{"274-network-update-parallel": network}
			ids["273-machine-update-parallel"] = r.must(t, "POST", "/v1/machine/allocate", byID(server("4"), network))["id"].(string)
			ids["275-ip-update-parallel"] = r.must(t, "POST", "/v1/ip/allocate/203.0.113.129",
				object{"projectid": projectA, "networkid": simulator.InternetNetwork})["ipaddress"].(string)
			r.sim.SetCosts(true)
			outcomes := r.atOnceWhileTimePasses(t, 8, func(i int) (string, string, any) {
				path, body := one(ids[file], i)
				return "POST", path, body
			})
			accepted := count(outcomes, 200)
			assert.Contains(t, []int{1, 2}, accepted)
			assert.Equal(t, 8-accepted, count(outcomes, 409))
			for _, o := range outcomes {
				if o.status == 409 {
					names := newNames()
					require.NoError(t, names.learn(netA, network))
					assert.Equal(t, names.translate(recorded.Sample.Message), o.message)
				}
			}
		})
	}
}

// 272: a free right after the allocation is refused in some cases, because
// the machine is just noticing that it is allocated; its addresses are on
// their way out all the same, and a second free works.
func TestReplay272_FreeRightAfterAllocate(t *testing.T) {
	t.Parallel()
	refused := 0
	// The free comes so many half milliseconds after the answer.
	for later := range 40 {
		r := laboratory(t, simulator.Config{Lag: 10 * time.Millisecond, Seed: uint64(later)})
		network := r.privateNetwork(t, nil)
		r.must(t, "POST", "/v1/machine/allocate", byID(server("1"), network))
		r.sim.SetCosts(true)
		r.clock.Step(time.Duration(later) * 500 * time.Microsecond)
		var status int
		var message string
		r.whileTimePasses(func() { status, _, message = r.try(t, "DELETE", "/v1/machine/"+server("1")+"/free", nil) })
		r.sim.SetCosts(false)
		r.clock.Step(time.Second)
		r.sim.Advance()
		if status == 409 {
			refused++
			assert.Equal(t, "Conflict cannot update machine ("+server("1")+"): the entity was changed from another, please retry", message)
			assert.NotNil(t, r.must(t, "GET", "/v1/machine/"+server("1"), nil)["allocation"])
			r.must(t, "DELETE", "/v1/machine/"+server("1")+"/free", nil)
		} else {
			assert.Equal(t, 200, status)
		}
		assert.Empty(t, r.list(t, "/v1/ip/find", object{"projectid": projectA}))
	}
	assert.Positive(t, refused)
	assert.Less(t, refused, 40)
}

// 341: of two parallel allocations of one machine one wins, and the other's
// roll-back frees the winner's addresses: the next machines get them again.
func TestReplay341_RaceForOneMachine(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	network := r.privateNetwork(t, nil)
	r.sim.SetCosts(true)
	outcomes := r.atOnceWhileTimePasses(t, 2, func(int) (string, string, any) {
		return "POST", "/v1/machine/allocate", byID(server("7"), network)
	})
	r.sim.SetCosts(false)
	r.clock.Step(10 * time.Second)
	r.sim.Advance()

	require.Equal(t, 1, count(outcomes, 200))
	for _, o := range outcomes {
		if o.status != 200 {
			assert.Contains(t, []string{
				`422 machine "` + server("7") + `" already allocated`,
				`409 error when allocating machine "` + server("7") + `", Conflict cannot update machine (` + server("7") +
					`): the entity was changed from another, please retry`,
			}, fmt.Sprint(o.status, " ", o.message))
		}
	}
	winner := r.must(t, "GET", "/v1/machine/"+server("7"), nil)
	require.NotNil(t, winner["allocation"])
	assert.Empty(t, r.list(t, "/v1/ip/find", object{"machineid": server("7")}), "the loser took the winner's addresses along")

	next := r.must(t, "POST", "/v1/machine/allocate", byID(server("8"), network))
	nextButOne := r.must(t, "POST", "/v1/machine/allocate", byID(server("3"), network))
	addresses := func(m object) (ips []any) {
		for _, n := range m["allocation"].(object)["networks"].([]any) {
			ips = append(ips, n.(object)["ips"].([]any)...)
		}
		return ips
	}
	shared := 0
	for _, ip := range addresses(winner) {
		for _, other := range append(addresses(next), addresses(nextButOne)...) {
			if ip == other {
				shared++
			}
		}
	}
	assert.Equal(t, 2, shared, "%v, %v, %v", addresses(winner), addresses(next), addresses(nextButOne))
}

// 501: after a burst of failed allocations of a machine, late clean-ups take
// the addresses of the good one that comes at once; after one failure not.
func TestReplay501_BurstOfFailedAllocations(t *testing.T) {
	t.Parallel()
	var recorded struct {
		Results []struct {
			Failures int `json:"failed_allocations_before"`
			Good     int `json:"good_allocations"`
			Lost     int `json:"of_those_lost_their_ips"`
		}
	}
	experiment(t, "501-burst-of-failed-allocations", &recorded)
	for _, result := range recorded.Results {
		t.Run(fmt.Sprintf("after %d failures", result.Failures), func(t *testing.T) {
			t.Parallel()
			r := laboratory(t, simulator.Config{})
			network := r.privateNetwork(t, nil)
			r.sim.SetCosts(true)
			r.whileTimePasses(func() {
				for range result.Failures {
					status, _, _ := r.try(t, "POST", "/v1/machine/allocate", byID(server("1"), "nope"))
					assert.Equal(t, 404, status)
				}
				r.must(t, "POST", "/v1/machine/allocate", byID(server("1"), network))
			})
			r.sim.SetCosts(false)
			r.clock.Step(10 * time.Second)
			r.sim.Advance()
			lost := len(r.list(t, "/v1/ip/find", object{"machineid": server("1")})) < 2
			assert.Equal(t, result.Lost > result.Good/2, lost)
		})
	}
}

// 541: freeing a network while the addresses of freed machines are still on
// their way back is refused; it works as soon as they are back, unless one
// prefix was free before the other: then the network can never be freed.
func TestReplay541_NetworkFreeRightAfterMachineFrees(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{Lag: 40 * time.Millisecond})
	network := r.privateNetwork(t, nil)
	for n := range 6 {
		r.must(t, "POST", "/v1/machine/allocate", byID(server(fmt.Sprint(n+1)), network))
	}
	outcomes := r.atOnce(t, 6, func(i int) (string, string, any) {
		return "DELETE", "/v1/machine/" + server(fmt.Sprint(i+1)) + "/free", nil
	})
	require.Equal(t, 6, count(outcomes, 200))
	status, _, message := r.try(t, "DELETE", "/v1/network/free/"+network, nil)
	assert.Equal(t, 422, status)
	assert.Regexp(t, `^error releasing child prefix in ipam: invalid_argument: prefix [0-9a-f.:]+/\d+ has ips, deletion not possible$`, message)
	r.clock.Step(10 * time.Second)
	r.sim.Advance()
	r.must(t, "DELETE", "/v1/network/free/"+network, nil)
	assert.NotEmpty(t, r.list(t, "/v1/network/find", object{}))
}
