// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// whileTimePasses does something that waits on the fake clock, which goes on
// by a tenth of a millisecond whenever it is waited for. It returns how long
// that took on that clock.
func (r *replay) whileTimePasses(do func()) time.Duration {
	return r.whileTimePassesAndAfter(time.Hour, func() {}, do)
}

// whileTimePassesAndAfter also does something else when the first has taken
// so long.
func (r *replay) whileTimePassesAndAfter(after time.Duration, then, do func()) time.Duration {
	start := r.clock.Now()
	var running atomic.Int32
	running.Store(1)
	go func() {
		defer running.Store(0)
		do()
	}()
	r.pass(&running, func() {
		if r.clock.Since(start) == after {
			then()
		}
	})
	return r.clock.Since(start)
}

// pass lets the clock go on by a tenth of a millisecond whenever all that are
// running wait for it, until none is.
func (r *replay) pass(running *atomic.Int32, stepped func()) {
	for n := running.Load(); n > 0; n = running.Load() {
		if r.clock.Waiters() >= int(n) {
			r.clock.Step(100 * time.Microsecond)
			stepped()
		}
		runtime.Gosched()
	}
}

// atOnceWhileTimePasses sends n requests at the same time, which also for the
// fake clock do their work at the same time.
func (r *replay) atOnceWhileTimePasses(t testing.TB, n int, one func(i int) (method, path string, body any)) []outcome {
	t.Helper()
	outcomes := make([]outcome, n)
	var running atomic.Int32
	running.Store(int32(n))
	for i := range n {
		method, path, body := one(i)
		go func() {
			defer running.Add(-1)
			outcomes[i].status, outcomes[i].body, outcomes[i].message = r.try(t, method, path, body)
		}()
	}
	r.pass(&running, func() {})
	return outcomes
}

// cut sends a request whose caller goes away after so many milliseconds of
// the fake clock; without a network in between, so that the server learns of
// it at once.
func (r *replay) cut(t testing.TB, after time.Duration, method, path string, body any) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if after == 0 {
		cancel()
	}
	req, err := http.NewRequestWithContext(ctx, method, path, strings.NewReader(asJSON(body)))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	sign(req, "Metal-Admin", simulator.DefaultHMAC.Admin, time.Now())
	r.whileTimePassesAndAfter(after, cancel, func() {
		defer func() { _ = recover() }() // how a handler drops a connection
		r.sim.Handler().ServeHTTP(httptest.NewRecorder(), req)
	})
}

// 346-358: what is left of a machine allocation whose caller goes away after
// so many milliseconds: nothing; nothing, but for a while no allocation by
// size gets the partition's lock; or the machine.
func TestReplay346_DisconnectFromMachineAllocate(t *testing.T) {
	t.Parallel()
	for _, file := range filesNamed(t, "disconnect-cut-") {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			var recorded struct {
				After     int `json:"cut_after_ms"`
				Allocated int `json:"machines_allocated_afterwards"`
				Addresses int `json:"ip_entities_with_that_name"`
				Next      []struct {
					MS float64 `json:"duration_ms"`
				} `json:"next_allocations"`
			}
			experiment(t, file, &recorded)
			r := laboratory(t, simulator.Config{})
			network := r.privateNetwork(t, object{"addressfamily": "IPv4"})
			r.sim.SetCosts(true)
			r.cut(t, time.Duration(recorded.After)*time.Millisecond, "POST", "/v1/machine/allocate", bySize(network, object{"name": "cut"}))

			var blocked time.Duration
			for status := 0; status != 200; {
				var message string
				took := r.whileTimePasses(func() {
					status, _, message = r.try(t, "POST", "/v1/machine/allocate", bySize(network, object{"name": "next"}))
				})
				blocked += took
				if status != 200 {
					require.Equal(t, 422, status)
					assert.Equal(t, "too many parallel machine allocations taking place, try again later", message)
					assert.InDelta(t, 10, took.Seconds(), 0.5)
				}
			}
			if recorded.Next[0].MS < 1000 {
				assert.Less(t, blocked, time.Second)
			} else {
				// A lock left behind is valid for ten seconds, and expired ones go every thirty.
				assert.Greater(t, blocked, 9*time.Second)
				assert.Less(t, blocked, 41*time.Second)
			}
			r.sim.SetCosts(false)
			assert.Len(t, r.list(t, "/v1/machine/find", object{"allocation_name": "cut"}), recorded.Allocated)
			assert.Equal(t, recorded.Addresses > 0, len(r.list(t, "/v1/ip/find", object{"name": "cut"})) > 0)
		})
	}
}

// 359: callers who went away cost no machine.
func TestReplay359_PoolAfterDisconnects(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	network := r.privateNetwork(t, nil)
	r.sim.SetCosts(true)
	for after := range 35 {
		r.cut(t, time.Duration(after)*time.Millisecond, "POST", "/v1/machine/allocate", bySize(network, object{"name": "cut"}))
		r.clock.Step(40 * time.Second)
	}
	r.sim.SetCosts(false)
	allocated := len(r.list(t, "/v1/machine/find", object{"allocation_name": "cut"}))
	for ; allocated < 6; allocated++ {
		r.must(t, "POST", "/v1/machine/allocate", bySize(network, nil))
	}
	_, _, message := r.try(t, "POST", "/v1/machine/allocate", bySize(network, nil))
	assert.Equal(t, "no machine available", message)
}

// 360-371: the same for a network, of which something may be left that
// no answer mentions, and for an address.
func TestReplay360_DisconnectFromNetworkAndAddressAllocate(t *testing.T) {
	t.Parallel()
	for _, file := range append(filesNamed(t, "disconnect-cutnet-"), filesNamed(t, "disconnect-cutip-")...) {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			var recorded struct {
				After    int  `json:"cut_after_ms"`
				Networks *int `json:"networks_afterwards"`
				IPs      int  `json:"ips_afterwards"`
			}
			experiment(t, file, &recorded)
			after := time.Duration(recorded.After) * time.Millisecond
			r := laboratory(t, simulator.Config{})
			before := used(t, r, simulator.InternetNetwork, "ipv4")
			r.sim.SetCosts(true)
			if recorded.Networks != nil {
				r.cut(t, after, "POST", "/v1/network/allocate", object{
					"name": "cut", "projectid": projectA, "partitionid": simulator.DefaultPartition, "addressfamily": "IPv4",
				})
				r.sim.SetCosts(false)
				assert.Len(t, r.list(t, "/v1/network/find", object{"name": "cut"}), *recorded.Networks)
				return
			}
			r.cut(t, after, "POST", "/v1/ip/allocate", object{"name": "cut", "projectid": projectA, "networkid": simulator.InternetNetwork})
			r.sim.SetCosts(false)
			assert.Len(t, r.list(t, "/v1/ip/find", object{"name": "cut"}), recorded.IPs)
			if recorded.IPs == 0 {
				assert.Equal(t, before, used(t, r, simulator.InternetNetwork, "ipv4"))
			}
		})
	}
}

// 409-420: with costs on, an answer takes about as long as the real one's.
func TestReplay409_Timing(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	network := r.privateNetwork(t, nil)
	get := func(path string) func(*testing.T) {
		return func(t *testing.T) { r.must(t, "GET", path, nil) }
	}
	find := func(path string, body any) func(*testing.T) {
		return func(t *testing.T) { r.list(t, path, body) }
	}
	does := map[string]func(*testing.T){
		"machine-get":          get("/v1/machine/" + server("1")),
		"machine-list":         get("/v1/machine"),
		"machine-find-project": find("/v1/machine/find", object{"allocation_project": projectA}),
		"network-get":          get("/v1/network/" + network),
		"network-list":         get("/v1/network"),
		"project-get":          get("/v1/project/" + projectA),
		"ip-find-tag":          find("/v1/ip/find", object{"tags": []any{"none"}}),
		"image-list":           get("/v1/image"),
		"network-allocate-free": func(t *testing.T) {
			r.must(t, "DELETE", "/v1/network/free/"+r.privateNetwork(t, object{"addressfamily": "IPv4"}), nil)
		},
		"ip-allocate-free": func(t *testing.T) {
			got := r.must(t, "POST", "/v1/ip/allocate", object{"projectid": projectA, "networkid": simulator.InternetNetwork})
			r.must(t, "DELETE", "/v1/ip/free/"+got["ipaddress"].(string), nil)
		},
	}
	r.sim.SetCosts(true)
	for _, file := range filesNamed(t, "timing-") {
		var recorded struct {
			Name       string
			Median     float64   `json:"median_ms"`
			AllocateMS []float64 `json:"allocate_ms"`
			FreeMS     []float64 `json:"free_ms"`
		}
		experiment(t, file, &recorded)
		switch {
		case recorded.Name != "":
			do := does[recorded.Name]
			require.NotNil(t, do, recorded.Name)
			took := r.whileTimePasses(func() { do(t) })
			assert.InEpsilon(t, recorded.Median, milliseconds(took), 0.5, recorded.Name)
		case recorded.AllocateMS != nil:
			var m object
			took := r.whileTimePasses(func() { m = r.must(t, "POST", "/v1/machine/allocate", bySize(network, nil)) })
			assert.InEpsilon(t, median(recorded.AllocateMS), milliseconds(took), 0.5, "allocate")
			took = r.whileTimePasses(func() { r.must(t, "DELETE", "/v1/machine/"+m["id"].(string)+"/free", nil) })
			assert.InEpsilon(t, median(recorded.FreeMS), milliseconds(took), 0.5, "free")
		}
	}
}

// 419: once a machine's free is answered, its network can be freed at once.
func TestReplay419_NetworkFreeAfterMachineFree(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	for range 5 {
		network := r.privateNetwork(t, nil)
		r.must(t, "POST", "/v1/machine/allocate", byID(server("1"), network))
		r.must(t, "DELETE", "/v1/machine/"+server("1")+"/free", nil)
		r.clock.Step(20 * time.Millisecond)
		r.must(t, "DELETE", "/v1/network/free/"+network, nil)
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// filesNamed are the experiments whose names begin with a prefix.
func filesNamed(t testing.TB, prefix string) (files []string) {
	t.Helper()
	for _, r := range loadRecordings(t, "testdata/exchanges") {
		if strings.HasPrefix(r.name(), prefix) {
			files = append(files, r.file)
		}
	}
	require.NotEmpty(t, files)
	return files
}
