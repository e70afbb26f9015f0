// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// askWith is ask with headers.
func (env *environment) askWith(t *testing.T, method, path, body string, headers map[string]string) (status int, answer string) {
	t.Helper()
	client, err := rest.HTTPClientFor(env.Config)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), method, env.URL+metalAPIPath("rose")+path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	response, err := client.Do(req)
	require.NoError(t, err)
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(raw)
}

// TestMetalAPIOfCluster_RefusesTricks is what HTTP, JSON and addresses offer beside plain
// requests.
func TestMetalAPIOfCluster_RefusesTricks(t *testing.T) {
	t.Parallel()
	v := newVictims(t)
	lilys, upgrade := "/v1/machine/"+v.lilysMachine, map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
	contentType := func(kind string) map[string]string { return map[string]string{"Content-Type": kind} }
	mapped := func(address string) string { return "::ffff:" + address }
	padded := func(address string) string { return strings.Replace(address, ".0.", ".000.", 1) }
	for name, trick := range map[string]struct {
		method, path, body string
		headers            map[string]string
		status             []int
	}{
		"upper case":                     {"GET", "/V1/Machine/" + v.lilysMachine, "", nil, []int{404}},
		"upper case of an id":            {"GET", "/v1/network/" + strings.ToUpper(v.lilysNetwork), "", nil, []int{404}},
		"double slash":                   {"GET", "/v1//machine/" + v.lilysMachine, "", nil, []int{404}},
		"double slash before":            {"GET", "//v1/machine/" + v.lilysMachine, "", nil, []int{404}},
		"slash after":                    {"GET", lilys + "/", "", nil, []int{404}},
		"dot":                            {"GET", "/v1/./machine/" + v.lilysMachine, "", nil, []int{404}},
		"dots to another cluster":        {"GET", "/../../lily/metalapi" + lilys, "", nil, []int{404}},
		"escaped dots":                   {"GET", "/%2e%2e/%2e%2e/lily/metalapi" + lilys, "", nil, []int{404}},
		"escaped dots and slashes":       {"GET", "/..%2f..%2flily%2fmetalapi" + lilys, "", nil, []int{404}},
		"dots that are escaped twice":    {"GET", "/%252e%252e/%252e%252e/lily/metalapi" + lilys, "", nil, []int{404}},
		"dots to the cluster":            {"GET", "/../../lily", "", nil, []int{404}},
		"null byte":                      {"GET", lilys + "%00", "", nil, []int{404}},
		"semicolon":                      {"GET", lilys + ";x=1", "", nil, []int{404}},
		"path in the query":              {"GET", "?path=" + lilys, "", nil, []int{404}},
		"path in the query, too":         {"GET", "/v1/machine?path=" + lilys, "", nil, []int{200}},
		"project in the query":           {"GET", "/v1/ip?project=" + projectB + "&projectid=" + projectB, "", nil, []int{200}},
		"project in the query of a find": {"POST", "/v1/ip/find?projectid=" + projectB, `{}`, nil, []int{200}},
		"usage in the query":             {"GET", "/v1/image?show-usage=true", "", nil, []int{200}},
		"name of a find as an id":        {"GET", "/v1/machine/find", "", nil, []int{404}},
		"no address":                     {"DELETE", "/v1/ip/free/", "", nil, []int{404}},
		"patch":                          {"PATCH", "/v1/ip", `{}`, nil, []int{404, 405}},
		"put":                            {"PUT", "/v1/ip", `{"ipaddress":"` + v.lilysService + `","tags":[]}`, nil, []int{404}},
		"options":                        {"OPTIONS", lilys, "", nil, []int{404, 405}},
		"head":                           {"HEAD", lilys, "", nil, []int{404, 405}},
		"method in a header":             {"POST", "/v1/ip/" + v.lilysService, "", map[string]string{"X-HTTP-Method-Override": "DELETE"}, []int{404}},
		"upgrade":                        {"GET", lilys, "", upgrade, []int{404}},
		"upgrade of a write":             {"POST", "/v1/ip/free/" + v.lilysService, "", upgrade, []int{403}},
		"plain text":                     {"POST", "/v1/ip/find", `{}`, contentType("text/plain"), []int{415}},
		"yaml":                           {"POST", "/v1/ip/find", "projectid: " + projectB, contentType("application/yaml"), []int{415}},
		"form":                           {"POST", "/v1/ip/find", "projectid=" + projectB, contentType("application/x-www-form-urlencoded"), []int{415}},
		"compressed body":                {"POST", "/v1/ip/find", "\x1f\x8b\x08\x00", map[string]string{"Content-Encoding": "gzip"}, []int{400, 415}},
		"answer as YAML":                 {"GET", "/v1/ip", "", map[string]string{"Accept": "application/yaml"}, []int{200}},
		"ten megabytes":                  {"POST", "/v1/ip/find", `{"name":"` + strings.Repeat("x", 10<<20) + `"}`, nil, []int{413}},
		"deep JSON":                      {"POST", "/v1/ip/find", `{"tags":` + strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000) + `}`, nil, []int{400, 422}},
		"two bodies":                     {"POST", "/v1/ip/find", `{}{"projectid":"` + projectB + `"}`, nil, []int{400}},
		"field twice":                    {"POST", "/v1/ip/find", `{"projectid":"` + projectA + `","projectid":"` + projectB + `"}`, nil, []int{200}},
		"field in two cases":             {"POST", "/v1/ip/allocate", `{"projectid":"` + projectA + `","ProjectID":"` + projectB + `","networkid":"` + simulator.InternetNetwork + `"}`, nil, []int{404, 422}},
		"machine of an address":          {"POST", "/v1/ip/allocate", `{"machineid":"` + v.lilysMachine + `","networkid":"` + simulator.InternetNetwork + `"}`, nil, []int{400}},
		"name of 60 kB":                  {"POST", "/v1/ip/allocate", `{"name":"` + strings.Repeat("x", 60_000) + `","networkid":"` + simulator.InternetNetwork + `"}`, nil, []int{422}},
		"IPv4 address as IPv6":           {"DELETE", "/v1/ip/free/" + mapped(v.lilysService), "", nil, []int{404}},
		"update of it":                   {"POST", "/v1/ip", `{"ipaddress":"` + mapped(v.lilysService) + `","tags":[]}`, nil, []int{404}},
		"address with zeros":             {"DELETE", "/v1/ip/free/" + padded(v.lilysService), "", nil, []int{404}},
		"address as a prefix":            {"DELETE", "/v1/ip/free/" + v.lilysService + "%2F32", "", nil, []int{404}},
		"address with a space":           {"DELETE", "/v1/ip/free/" + v.lilysService + "%20", "", nil, []int{404}},
		"address of another family":      {"POST", "/v1/ip/find", `{"addressfamily":"IPv5"}`, nil, []int{400}},
	} {
		status, answer := v.askWith(t, trick.method, trick.path, trick.body, trick.headers)
		assert.Contains(t, trick.status, status, "%s: %.300s", name, answer)
		for _, foreign := range []string{v.theirs, v.theirStatic, `"` + v.lilysMachine + `"`} {
			if !strings.HasPrefix(answer, `"{`) { // An error repeats what was asked for.
				assert.NotContains(t, answer, foreign, name)
			}
		}
	}
	v.requireUntouched(t)
}

// TestMetalAPIOfCluster_RefusesTagsOfNoService tries what may be taken for a tag of a
// Service of the cluster, by us or by others.
func TestMetalAPIOfCluster_RefusesTagsOfNoService(t *testing.T) {
	t.Parallel()
	v := newVictims(t)
	const key = "cluster.metal-stack.io/id/namespace/service="
	var all, others []string
	for name, tag := range map[string]string{
		"no Service":           key + v.rose,
		"nothing":              key + v.rose + "/",
		"no name":              key + v.rose + "/default/",
		"no namespace":         key + v.rose + "//web",
		"name with a slash":    key + v.rose + "/default/web/x",
		"dots to another":      key + v.rose + "/../" + v.lily + "/default/web",
		"name with a newline":  key + v.rose + "/default/web\n" + key + v.lily + "/default/web",
		"name with a tag":      key + v.rose + "/default/web," + key + v.lily + "/default/web",
		"name with an equals":  key + v.rose + "/default/web=" + v.lily,
		"name in upper case":   key + v.rose + "/default/WEB",
		"long name":            key + v.rose + "/default/" + strings.Repeat("x", 64),
		"beginning of an id":   key + v.rose[:8] + "/default/web",
		"longer id":            key + v.rose + "0/default/web",
		"id in upper case":     key + strings.ToUpper(v.rose) + "/default/web",
		"key in upper case":    strings.ToUpper(key) + v.rose + "/default/web",
		"space before":         " " + key + v.rose + "/default/web",
		"the cluster":          "cluster.metal-stack.io/id=" + v.rose,
		"another cluster":      "cluster.metal-stack.io/id=" + v.lily,
		"a machine":            "machine.metal-stack.io/id=" + v.rosesMachine,
		"egress":               "cluster.metal-stack.io/id/namespace/egress=" + v.rose,
		"nothing but the name": "web",
		"empty":                "",
	} {
		tags, err := json.Marshal([]string{tag})
		require.NoError(t, err)
		status, answer := v.ask(t, "POST", "rose", "v1/ip/allocate", `{"networkid":"`+simulator.InternetNetwork+`","tags":`+string(tags)+`}`)
		assert.Contains(t, []int{http.StatusForbidden, http.StatusUnprocessableEntity}, status, "%s: %s", name, answer)
		all = append(all, tag)
		if !strings.HasPrefix(tag, key+v.rose+"/") {
			others = append(others, tag)
		}
	}
	// On an address that the cluster may use, they are refused, or as if they were not there.
	for _, update := range []struct {
		tags   []string
		status int
	}{{all, http.StatusUnprocessableEntity}, {others, http.StatusOK}} {
		tags, err := json.Marshal(update.tags)
		require.NoError(t, err)
		status, answer := v.ask(t, "POST", "rose", "v1/ip", `{"ipaddress":"`+v.byHand+`","tags":`+string(tags)+`}`)
		assert.Equal(t, update.status, status, answer)
	}
	v.requireUntouched(t)
}

// TestMetalAPIOfCluster_SaysNothingOfWhatIsThere compares what is answered of things of
// others and of what does not exist.
func TestMetalAPIOfCluster_SaysNothingOfWhatIsThere(t *testing.T) {
	t.Parallel()
	v := newVictims(t)
	theirNetwork := func() string {
		for _, n := range v.sim.Inventory().Networks {
			if n.Name == "theirs" {
				return n.ID
			}
		}
		return ""
	}()
	require.NotEmpty(t, theirNetwork)
	const uuid, address = "00000000-0000-4000-8000-00000000ffff", "203.0.113.251"
	own := serviceTag(v.rose, "web")
	for name, probe := range map[string]struct {
		method, path, body string
		// foreign things and one that is not there, each of which is put in place of ID.
		foreign []string
		absent  string
	}{
		"machine":                        {"GET", "v1/machine/ID", "", []string{v.lilysMachine, v.theirs}, uuid},
		"machines by id":                 {"POST", "v1/machine/find", `{"id":"ID"}`, []string{v.lilysMachine, v.theirs}, uuid},
		"machines by tag":                {"POST", "v1/machine/find", `{"tags":["cluster.metal-stack.io/id=ID"]}`, []string{v.lily}, uuid},
		"machines by hostname":           {"POST", "v1/machine/find", `{"allocation_hostname":"ID"}`, []string{"node-l", "theirs"}, "nobody"},
		"machines by name":               {"POST", "v1/machine/find", `{"allocation_name":"ID"}`, []string{"node-l", "theirs"}, "nobody"},
		"machines by network":            {"POST", "v1/machine/find", `{"network_ids":["ID"]}`, []string{v.lilysNetwork, theirNetwork}, uuid},
		"machines by address":            {"POST", "v1/machine/find", `{"network_ips":["ID"]}`, []string{v.lilysMachineIP}, address},
		"machines by project":            {"POST", "v1/machine/find", `{"allocation_project":"ID"}`, []string{projectB}, uuid},
		"machines by MAC address":        {"POST", "v1/machine/find", `{"nics_mac_addresses":["ID"]}`, []string{"00:03:00:00:03:01"}, "00:00:00:00:00:00"},
		"machines by address of the BMC": {"POST", "v1/machine/find", `{"ipmi_address":"ID"}`, []string{"192.168.0.1"}, "192.168.0.2"},
		"address":                        {"GET", "v1/ip/ID", "", []string{v.theirStatic}, address},
		"addresses by address":           {"POST", "v1/ip/find", `{"ipaddress":"ID"}`, []string{v.theirStatic}, address},
		"addresses by project":           {"POST", "v1/ip/find", `{"projectid":"ID"}`, []string{projectB}, uuid},
		"addresses by network":           {"POST", "v1/ip/find", `{"networkid":"ID"}`, []string{theirNetwork}, uuid},
		"addresses by machine":           {"POST", "v1/ip/find", `{"machineid":"ID"}`, []string{v.theirs}, uuid},
		"addresses by prefix":            {"POST", "v1/ip/find", `{"networkprefix":"ID/32"}`, []string{v.theirStatic}, address},
		"update of an address":           {"POST", "v1/ip", `{"ipaddress":"ID","tags":["` + own + `"]}`, []string{v.theirStatic}, address},
		"update with another type":       {"POST", "v1/ip", `{"ipaddress":"ID","type":"ephemeral"}`, []string{v.theirStatic}, address},
		"free of an address":             {"DELETE", "v1/ip/free/ID", "", []string{v.theirStatic}, address},
		"allocation in a network":        {"POST", "v1/ip/allocate", `{"networkid":"ID","tags":["` + own + `"]}`, []string{v.lilysNetwork, theirNetwork, simulator.SuperNetwork, simulator.UnderlayNetwork}, uuid},
		"allocation in a project":        {"POST", "v1/ip/allocate", `{"networkid":"` + simulator.InternetNetwork + `","projectid":"ID","tags":["` + own + `"]}`, []string{projectB}, uuid},
		"network":                        {"GET", "v1/network/ID", "", []string{v.lilysNetwork, theirNetwork, simulator.SuperNetwork, simulator.UnderlayNetwork}, uuid},
		"networks by id":                 {"POST", "v1/network/find", `{"id":"ID"}`, []string{v.lilysNetwork, theirNetwork, simulator.SuperNetwork}, uuid},
		"networks by project":            {"POST", "v1/network/find", `{"projectid":"ID"}`, []string{projectB}, uuid},
		"networks by label":              {"POST", "v1/network/find", `{"labels":{"cluster.metal-stack.io/id":"ID"}}`, []string{v.lily}, uuid},
		"networks by name":               {"POST", "v1/network/find", `{"name":"ID"}`, []string{"theirs"}, "nobody's"},
	} {
		answers := func(id string) string {
			in := func(s string) string { return strings.ReplaceAll(s, "ID", id) }
			status, answer := v.ask(t, probe.method, "rose", in(probe.path), in(probe.body))
			require.NotEqual(t, http.StatusTooManyRequests, status, name)
			return http.StatusText(status) + ": " + strings.ReplaceAll(answer, id, "ID")
		}
		absent := answers(probe.absent)
		for _, id := range probe.foreign {
			assert.Equal(t, absent, answers(id), "%s: %s", name, id)
		}
	}
	v.requireUntouched(t)
}

func TestMetalAPIOfCluster_FloodOfAllocationsIsBoundedAndOfOneCluster(t *testing.T) {
	t.Parallel()
	v := newVictims(t)
	const requests = 60
	var mu sync.Mutex
	statuses := map[int]int{}
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			service := "same"
			if i%2 == 0 {
				service = "web-" + strings.Repeat("x", i/2)
			}
			status, answer := v.ask(t, "POST", "rose", "v1/ip/allocate", `{"networkid":"`+simulator.InternetNetwork+`","tags":["`+serviceTag(v.rose, service+"y")+`"]}`)
			var inner string
			if status != http.StatusCreated && assert.NoError(t, json.Unmarshal([]byte(answer), &inner), answer) {
				assert.Contains(t, inner, `{"statuscode":`)
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
		})
	}
	wg.Wait()
	assert.Positive(t, statuses[http.StatusTooManyRequests], "%v", statuses)
	perService := map[string]int{}
	for _, ip := range v.sim.Inventory().IPs {
		for _, tag := range ip.Tags {
			if strings.HasPrefix(tag, serviceTag(v.rose, "")) {
				perService[tag]++
			}
		}
	}
	for tag, n := range perService {
		assert.Equal(t, 1, n, tag)
	}
	other, err := allocateIP(v.metalAPI(t, "lily"), v.lily, "mail")
	require.NoError(t, err, "another cluster is not concerned")
	assert.NotEmpty(t, *other.Ipaddress)
}
