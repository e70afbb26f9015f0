// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// victims are what the program that has the token of cluster rose must not reach: of
// cluster lily in the same project, and of another project.
type victims struct {
	*environment

	// rose and lily are cluster ids.
	rose, lily string
	// rosesMachine and lilysMachine are of the clusters, theirs is of another project.
	rosesMachine, lilysMachine, theirs string
	lilysNetwork                       string
	// Addresses.
	lilysService, lilysStatic, lilysControlPlane, lilysMachineIP, byHand, theirStatic string
}

func newVictims(t *testing.T) *victims {
	t.Helper()
	v := &victims{environment: start(t)}
	v.rose, v.rosesMachine = v.allocatedCluster(t, "rose", "node-r")
	v.lily, v.lilysMachine = v.allocatedCluster(t, "lily", "node-l")
	theirNetwork, err := v.sim.AllocateNetworkFor(projectB, simulator.DefaultPartition, "theirs", nil)
	require.NoError(t, err)
	v.theirs, err = v.sim.AllocateFor(simulator.AllocateRequest{
		Project: projectB, Name: "theirs", Hostname: "theirs", Size: simulator.SmallSize, Partition: simulator.DefaultPartition,
		Image: simulator.MachineImage, Networks: []string{theirNetwork},
	})
	require.NoError(t, err)
	lilysIP, err := allocateIP(v.metalAPI(t, "lily"), v.lily, "web")
	require.NoError(t, err)
	v.lilysService = *lilysIP.Ipaddress
	static := func(project string, tags ...string) string {
		address, err := v.sim.AllocateIPFor(project, simulator.InternetNetwork, "static", tags)
		require.NoError(t, err)
		return address
	}
	v.theirStatic, v.byHand, v.lilysStatic = static(projectB), static(projectA), static(projectA, serviceTag(v.lily, "fixed"))
	cluster, err := v.clusters.Get(t.Context(), "lily", metav1.GetOptions{})
	require.NoError(t, err)
	v.lilysControlPlane, v.lilysNetwork = cluster.Spec.ControlPlaneEndpoint.Host, cluster.Status.Network.ID
	m, err := v.machines.Get(t.Context(), "node-l", metav1.GetOptions{})
	require.NoError(t, err)
	for _, a := range m.Status.Addresses {
		if a.Type == "InternalIP" {
			v.lilysMachineIP = a.Address
		}
	}
	require.NotEmpty(t, v.lilysMachineIP)
	return v
}

// requireUntouched requires that the addresses of others are as they were.
func (v *victims) requireUntouched(t *testing.T) {
	t.Helper()
	for address, tags := range map[string][]string{
		v.lilysService:   {"cluster.metal-stack.io/id=" + v.lily, serviceTag(v.lily, "web")},
		v.lilysStatic:    {serviceTag(v.lily, "fixed")},
		v.theirStatic:    {},
		v.byHand:         {},
		v.lilysMachineIP: {"machine.metal-stack.io/id=" + v.lilysMachine},
	} {
		require.NotEmpty(t, v.addressState(address).Project, address)
		assert.ElementsMatch(t, tags, v.addressState(address).Tags, address)
	}
	require.NotEmpty(t, v.addressState(v.lilysControlPlane).Project)
	for _, tag := range v.addressState(v.lilysControlPlane).Tags {
		assert.NotContains(t, tag, v.rose)
	}
}

// TestMetalAPIOfCluster_RefusesWhatIsOthers is what a program with the cluster's token may
// try.
func TestMetalAPIOfCluster_RefusesWhatIsOthers(t *testing.T) {
	t.Parallel()
	v := newVictims(t)
	own := serviceTag(v.rose, "web")
	quoted := func(s string) string { return `"` + s + `"` }
	for name, attack := range map[string]struct {
		method, path, body string
		status             int
		lacks              string
	}{
		"machine of another cluster":                {"GET", "v1/machine/" + v.lilysMachine, "", 404, v.lilysMachine + `","name`},
		"machine of another project":                {"GET", "v1/machine/" + v.theirs, "", 404, ""},
		"machines of another cluster by hostname":   {"POST", "v1/machine/find", `{"allocation_hostname":"node-l"}`, 200, v.lilysMachine},
		"machines of another cluster by tag":        {"POST", "v1/machine/find", `{"tags":["cluster.metal-stack.io/id=` + v.lily + `"]}`, 200, v.lilysMachine},
		"machines of another project":               {"POST", "v1/machine/find", `{"allocation_project":"` + projectB + `"}`, 200, v.theirs},
		"machines without a filter":                 {"POST", "v1/machine/find", `{}`, 200, v.lilysMachine},
		"list of machines":                          {"GET", "v1/machine", "", 200, v.lilysMachine},
		"filter that is not known":                  {"POST", "v1/machine/find", `{"ipmi_address":"10.0.0.1"}`, 400, ""},
		"BMC data":                                  {"GET", "v1/machine/" + v.lilysMachine + "/ipmi", "", 404, ""},
		"BMC data of all":                           {"POST", "v1/machine/ipmi/find", `{}`, 404, ""},
		"console password":                          {"GET", "v1/machine/consolepassword", "", 404, ""},
		"power":                                     {"POST", "v1/machine/" + v.lilysMachine + "/power/off", `[]`, 404, ""},
		"reinstall":                                 {"POST", "v1/machine/" + v.lilysMachine + "/reinstall", `{}`, 404, ""},
		"allocation of a machine":                   {"POST", "v1/machine/allocate", `{}`, 404, ""},
		"release of a machine":                      {"DELETE", "v1/machine/" + v.lilysMachine + "/free", "", 404, ""},
		"update of a machine":                       {"POST", "v1/machine", `{"id":"` + v.lilysMachine + `","tags":[]}`, 403, ""},
		"addresses of another project":              {"POST", "v1/ip/find", `{"projectid":"` + projectB + `"}`, 200, v.theirStatic},
		"address of another project":                {"GET", "v1/ip/" + v.theirStatic, "", 404, ""},
		"all addresses":                             {"POST", "v1/ip/find", `{}`, 200, v.theirStatic},
		"address for another cluster's Service":     {"POST", "v1/ip/allocate", `{"networkid":"` + simulator.InternetNetwork + `","tags":[` + quoted(serviceTag(v.lily, "x")) + `]}`, 403, ""},
		"address without a Service":                 {"POST", "v1/ip/allocate", `{"networkid":"` + simulator.InternetNetwork + `"}`, 422, ""},
		"address with an identity":                  {"POST", "v1/ip/allocate", `{"networkid":"` + simulator.InternetNetwork + `","tags":["infrastructure.cluster.x-k8s.io/uid=` + v.lily + `"]}`, 403, ""},
		"address in another project":                {"POST", "v1/ip/allocate", `{"networkid":"` + simulator.InternetNetwork + `","projectid":"` + projectB + `","tags":[` + quoted(own) + `]}`, 404, ""},
		"address in another cluster's network":      {"POST", "v1/ip/allocate", `{"networkid":"` + v.lilysNetwork + `","tags":[` + quoted(own) + `]}`, 404, ""},
		"certain address":                           {"POST", "v1/ip/allocate/203.0.113.140", `{}`, 404, ""},
		"tag on another cluster's address":          {"POST", "v1/ip", `{"ipaddress":"` + v.lilysService + `","tags":[` + quoted(own) + `]}`, 409, ""},
		"tag on another cluster's static address":   {"POST", "v1/ip", `{"ipaddress":"` + v.lilysStatic + `","tags":[` + quoted(own) + `]}`, 409, ""},
		"tag on another control plane's address":    {"POST", "v1/ip", `{"ipaddress":"` + v.lilysControlPlane + `","tags":[` + quoted(own) + `]}`, 409, ""},
		"tag on a machine's address":                {"POST", "v1/ip", `{"ipaddress":"` + v.lilysMachineIP + `","tags":[` + quoted(own) + `]}`, 409, ""},
		"tag on another project's address":          {"POST", "v1/ip", `{"ipaddress":"` + v.theirStatic + `","tags":[` + quoted(own) + `]}`, 404, ""},
		"tags of others taken away":                 {"POST", "v1/ip", `{"ipaddress":"` + v.lilysMachineIP + `","tags":[]}`, 200, "no such thing"},
		"type of an address":                        {"POST", "v1/ip", `{"ipaddress":"` + v.lilysService + `","type":"static"}`, 403, ""},
		"another cluster's address freed":           {"DELETE", "v1/ip/free/" + v.lilysService, "", 403, ""},
		"another cluster's address freed, old form": {"POST", "v1/ip/free/" + v.lilysService, "", 403, ""},
		"static address freed":                      {"DELETE", "v1/ip/free/" + v.byHand, "", 403, ""},
		"control plane's address freed":             {"DELETE", "v1/ip/free/" + v.lilysControlPlane, "", 403, ""},
		"machine's address freed":                   {"DELETE", "v1/ip/free/" + v.lilysMachineIP, "", 403, ""},
		"another project's address freed":           {"DELETE", "v1/ip/free/" + v.theirStatic, "", 404, ""},
		"another cluster's network":                 {"GET", "v1/network/" + v.lilysNetwork, "", 404, ""},
		"network freed":                             {"DELETE", "v1/network/free/" + v.lilysNetwork, "", 404, ""},
		"projects":                                  {"GET", "v1/project", "", 404, ""},
		"switches":                                  {"GET", "v1/switch", "", 404, ""},
		"path that leaves the metal-api":            {"GET", "v1/../../../lily/metalapi/v1/machine", "", 404, ""},
		"path with an escaped slash":                {"GET", "v1/machine/..%2F..%2Fmachine%2F" + v.lilysMachine, "", 404, ""},
		"body that is no object":                    {"POST", "v1/ip/find", `[]`, 400, ""},
		"body of another type":                      {"POST", "v1/ip/find", `{"projectid":5}`, 400, ""},
		"body that is too large":                    {"POST", "v1/ip/find", `{"name":"` + strings.Repeat("x", 100<<10) + `"}`, 413, ""},
	} {
		status, answer := v.ask(t, attack.method, "rose", attack.path, attack.body)
		assert.Equal(t, attack.status, status, "%s: %s", name, answer)
		if attack.lacks != "" {
			assert.NotContains(t, answer, attack.lacks, name)
		}
		if status >= 400 && !strings.Contains(attack.path, "..") {
			var inner string
			require.NoError(t, json.Unmarshal([]byte(answer), &inner), "%s: in the metal-api's form: %s", name, answer)
			assert.Contains(t, inner, `"statuscode":`, name)
		}
		assert.NotContains(t, answer, "secret", name)
	}
	v.requireUntouched(t)
}
