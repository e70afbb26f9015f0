// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// The recordings without a method are experiments. Each is done again here,
// named after its file, and has to find the same rule.

// laboratory is a data centre like the recorded one, with all eight machines
// waiting, in which an experiment is done.
func laboratory(t testing.TB, cfg simulator.Config) *replay {
	t.Helper()
	if cfg.DataCentre == nil {
		cfg.DataCentre = simulator.DefaultDataCentre(8)
	}
	r := newReplay(t, cfg, time.Date(2026, 11, 22, 13, 55, 57, 321, time.UTC))
	r.machines = &timelines{}
	return r
}

// must is a request as the admin, which has to succeed.
func (r *replay) must(t testing.TB, method, path string, body any) object {
	t.Helper()
	return r.ask(t, method, path, body)
}

// try is a request as the admin; it returns the status, and the decoded
// answer or what the error says.
func (r *replay) try(t testing.TB, method, path string, body any) (int, object, string) {
	t.Helper()
	got := r.send(t, request{user: "Metal-Admin", method: method, path: path, body: body})
	switch v := decode(t, got.body).(type) {
	case object:
		return got.status, v, ""
	case string:
		inner, _ := decode(t, []byte(v)).(object)
		message, _ := inner["message"].(string)
		return got.status, nil, message
	}
	return got.status, nil, ""
}

// outcome is what one of many requests at once came to.
type outcome struct {
	status  int
	body    object
	message string
}

// atOnce sends n requests at the same time.
func (r *replay) atOnce(t testing.TB, n int, one func(i int) (method, path string, body any)) []outcome {
	t.Helper()
	var wg sync.WaitGroup
	start := make(chan struct{})
	outcomes := make([]outcome, n)
	for i := range n {
		wg.Go(func() {
			method, path, body := one(i)
			<-start
			outcomes[i].status, outcomes[i].body, outcomes[i].message = r.try(t, method, path, body)
		})
	}
	close(start)
	wg.Wait()
	return outcomes
}

func count(outcomes []outcome, status int) (n int) {
	for _, o := range outcomes {
		if o.status == status {
			n++
		}
	}
	return n
}

// privateNetwork allocates a network for project a and returns its id.
func (r *replay) privateNetwork(t testing.TB, more object) string {
	t.Helper()
	body := object{"projectid": projectA, "partitionid": simulator.DefaultPartition}
	for k, v := range more {
		body[k] = v
	}
	return r.must(t, "POST", "/v1/network/allocate", body)["id"].(string)
}

// bySize is the body of an allocation of a small machine.
func bySize(network string, more object) object {
	body := object{
		"projectid": projectA, "partitionid": simulator.DefaultPartition, "sizeid": simulator.SmallSize,
		"imageid": simulator.MachineImage, "networks": []any{object{"networkid": network}},
	}
	for k, v := range more {
		body[k] = v
	}
	return body
}

// byID is the body of an allocation of one machine.
func byID(id, network string) object {
	return object{
		"uuid": id, "projectid": projectA, "imageid": simulator.MachineImage,
		"networks": []any{object{"networkid": network}},
	}
}

func used(t testing.TB, r *replay, network, family string) string {
	t.Helper()
	n := r.must(t, "GET", "/v1/network/"+network, nil)
	return fmt.Sprint(n["consumption"].(object)[family].(object)["used_ips"])
}

// 157: of six parallel allocations of one address one gets it.
func TestReplay157_SpecificAddressInParallel(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	outcomes := r.atOnce(t, 6, func(int) (string, string, any) {
		return "POST", "/v1/ip/allocate/203.0.113.210", object{"networkid": simulator.InternetNetwork, "projectid": projectA}
	})
	assert.Equal(t, 1, count(outcomes, 201))
	assert.Equal(t, 5, count(outcomes, 409))
}

// 233: the tags of a machine come back in any order.
func TestReplay233_OrderOfTags(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	id := r.must(t, "POST", "/v1/machine/allocate", bySize(r.privateNetwork(t, nil), nil))["id"]
	orders := map[string]bool{}
	var want []string
	for range 12 {
		m := r.must(t, "POST", "/v1/machine", object{"id": id, "tags": []any{"a", "b", "cluster=c1", "z=1", "y=2"}})
		var tags []string
		for _, tag := range m["tags"].([]any) {
			tags = append(tags, tag.(string))
		}
		orders[strings.Join(tags, " ")] = true
		slices.Sort(tags)
		if want == nil {
			want = tags
		}
		assert.Equal(t, want, tags)
	}
	assert.Len(t, want, 8, "five of the user's and three of the system's")
	assert.Greater(t, len(orders), 3, "the order is left to chance")
}

// 276: eight parallel network allocations all succeed, with prefixes and
// VRFs of their own.
func TestReplay276_NetworksInParallel(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	outcomes := r.atOnce(t, 8, func(int) (string, string, any) {
		return "POST", "/v1/network/allocate", object{"projectid": projectA, "partitionid": simulator.DefaultPartition}
	})
	assert.Equal(t, 8, count(outcomes, 201))
	seen := map[string]bool{}
	for _, o := range outcomes {
		for _, p := range append(o.body["prefixes"].([]any), o.body["vrf"]) {
			assert.False(t, seen[fmt.Sprint(p)], "%v twice", p)
			seen[fmt.Sprint(p)] = true
		}
	}
}

// 332-334: an answer's headers are its type, the date and, if it is short,
// its length. No ETag.
func TestReplay332_ResponseHeaders(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	for file, path := range map[string]string{
		"332-response-headers":         "/v1/machine/" + server("1"),
		"333-response-headers-error":   "/v1/machine/nope",
		"334-response-headers-no-auth": "/v1/partition",
	} {
		var recorded struct {
			Headers http.Header
			Status  int
		}
		experiment(t, file, &recorded)
		req, err := http.NewRequestWithContext(t.Context(), "GET", r.url+path, nil)
		require.NoError(t, err)
		if recorded.Status != 403 {
			sign(req, "Metal-Admin", simulator.DefaultHMAC.Admin, time.Now())
		}
		rsp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		rsp.Body.Close()
		assert.Equal(t, recorded.Status, rsp.StatusCode, file)
		for _, h := range []http.Header{recorded.Headers, rsp.Header} {
			h.Set("Date", "any")
		}
		assert.Equal(t, recorded.Headers, rsp.Header, file)
	}
}

// 342: with six machines free, six of eight parallel allocations by size
// succeed, each with a machine of its own.
func TestReplay342_RaceBySize(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	network := r.privateNetwork(t, nil)
	outcomes := r.atOnce(t, 8, func(i int) (string, string, any) {
		return "POST", "/v1/machine/allocate", bySize(network, object{"name": fmt.Sprintf("par-%d", i)})
	})
	assert.Equal(t, 6, count(outcomes, 200))
	assert.Equal(t, 2, count(outcomes, 422))
	ids := map[any]bool{}
	for _, o := range outcomes {
		if o.status == 200 {
			ids[o.body["id"]] = true
		} else {
			assert.Equal(t, "no machine available", o.message)
		}
	}
	assert.Len(t, ids, 6)
}

// 344: machines with a placement tag go to the racks in turn.
func TestReplay344_Placement(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	network := r.privateNetwork(t, nil)
	racks := map[any]int{}
	for i := range 6 {
		m := r.must(t, "POST", "/v1/machine/allocate", bySize(network, object{
			"tags": []any{"cluster=place"}, "placement_tags": []any{"cluster=place"},
		}))
		racks[m["rackid"]]++
		if i%2 == 1 {
			assert.Equal(t, []int{i/2 + 1, i/2 + 1}, []int{racks["fra-01-rack-01"], racks["fra-01-rack-02"]})
		}
	}
}

// 345: after one allocation that failed behind the choice of a machine, the
// next one of the same machine keeps its addresses.
func TestReplay345_RetryAfterFailedAllocation(t *testing.T) {
	t.Parallel()
	r := laboratory(t, simulator.Config{})
	network := r.privateNetwork(t, nil)
	for range 4 {
		status, _, _ := r.try(t, "POST", "/v1/machine/allocate", byID(server("1"), "nope"))
		require.Equal(t, 404, status)
		r.must(t, "POST", "/v1/machine/allocate", byID(server("1"), network))
		r.clock.Step(1500 * time.Millisecond)
		r.sim.Advance()
		assert.Len(t, r.list(t, "/v1/ip/find", object{"machineid": server("1")}), 2)
		r.must(t, "DELETE", "/v1/machine/"+server("1")+"/free", nil)
		r.clock.Step(time.Second)
		r.sim.Advance()
	}
}

// list is a find.
func (r *replay) list(t testing.TB, path string, body any) []any {
	t.Helper()
	got := r.send(t, request{user: "Metal-Admin", method: "POST", path: path, body: body})
	require.Equal(t, 200, got.status, "%s", got.body)
	found, _ := decode(t, got.body).([]any)
	return found
}
