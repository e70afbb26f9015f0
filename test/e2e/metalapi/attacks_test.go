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

// TestMetalAPIOfCluster_RefusesWhatIsOthers is what a program with the cluster's token may
// try.
func TestMetalAPIOfCluster_RefusesWhatIsOthers(t *testing.T) {
	t.Parallel()
	env := start(t)
	rose, _ := env.allocatedCluster(t, "rose", "node-r")
	lily, lilysMachine := env.allocatedCluster(t, "lily", "node-l")
	theirNetwork, err := env.sim.AllocateNetworkFor(projectB, simulator.DefaultPartition, "theirs", nil)
	require.NoError(t, err)
	theirs, err := env.sim.AllocateFor(simulator.AllocateRequest{
		Project: projectB, Name: "theirs", Hostname: "theirs", Size: simulator.SmallSize, Partition: simulator.DefaultPartition,
		Image: simulator.MachineImage, Networks: []string{theirNetwork},
	})
	require.NoError(t, err)
	lilysAPI := env.metalAPI(t, "lily")

	lilysIP, err := allocateIP(lilysAPI, lily, "web")
	require.NoError(t, err)
	static := func(project string, tags ...string) string {
		address, err := env.sim.AllocateIPFor(project, simulator.InternetNetwork, "static", tags)
		require.NoError(t, err)
		return address
	}
	theirStatic, byHand, lilysStatic := static(projectB), static(projectA), static(projectA, serviceTag(lily, "fixed"))
	lilysCluster, err := env.clusters.Get(t.Context(), "lily", metav1.GetOptions{})
	require.NoError(t, err)
	lilysControlPlane := lilysCluster.Spec.ControlPlaneEndpoint.Host
	m, err := env.machines.Get(t.Context(), "node-l", metav1.GetOptions{})
	require.NoError(t, err)
	var machineIP string
	for _, a := range m.Status.Addresses {
		if a.Type == "InternalIP" {
			machineIP = a.Address
		}
	}
	require.NotEmpty(t, machineIP)

	own := serviceTag(rose, "web")
	quoted := func(s string) string { return `"` + s + `"` }
	for name, attack := range map[string]struct {
		method, path, body string
		status             int
		lacks              string
	}{
		"machine of another cluster":                {"GET", "v1/machine/" + lilysMachine, "", 404, lilysMachine + `","name`},
		"machine of another project":                {"GET", "v1/machine/" + theirs, "", 404, ""},
		"machines of another cluster by hostname":   {"POST", "v1/machine/find", `{"allocation_hostname":"node-l"}`, 200, lilysMachine},
		"machines of another cluster by tag":        {"POST", "v1/machine/find", `{"tags":["cluster.metal-stack.io/id=` + lily + `"]}`, 200, lilysMachine},
		"machines of another project":               {"POST", "v1/machine/find", `{"allocation_project":"` + projectB + `"}`, 200, theirs},
		"machines without a filter":                 {"POST", "v1/machine/find", `{}`, 200, lilysMachine},
		"list of machines":                          {"GET", "v1/machine", "", 200, lilysMachine},
		"filter that is not known":                  {"POST", "v1/machine/find", `{"ipmi_address":"10.0.0.1"}`, 400, ""},
		"BMC data":                                  {"GET", "v1/machine/" + lilysMachine + "/ipmi", "", 404, ""},
		"BMC data of all":                           {"POST", "v1/machine/ipmi/find", `{}`, 404, ""},
		"console password":                          {"GET", "v1/machine/consolepassword", "", 404, ""},
		"power":                                     {"POST", "v1/machine/" + lilysMachine + "/power/off", `[]`, 404, ""},
		"reinstall":                                 {"POST", "v1/machine/" + lilysMachine + "/reinstall", `{}`, 404, ""},
		"allocation of a machine":                   {"POST", "v1/machine/allocate", `{}`, 404, ""},
		"release of a machine":                      {"DELETE", "v1/machine/" + lilysMachine + "/free", "", 404, ""},
		"update of a machine":                       {"POST", "v1/machine", `{"id":"` + lilysMachine + `","tags":[]}`, 403, ""},
		"addresses of another project":              {"POST", "v1/ip/find", `{"projectid":"` + projectB + `"}`, 200, theirStatic},
		"address of another project":                {"GET", "v1/ip/" + theirStatic, "", 404, ""},
		"all addresses":                             {"POST", "v1/ip/find", `{}`, 200, theirStatic},
		"address for another cluster's Service":     {"POST", "v1/ip/allocate", `{"networkid":"` + simulator.InternetNetwork + `","tags":[` + quoted(serviceTag(lily, "x")) + `]}`, 403, ""},
		"address without a Service":                 {"POST", "v1/ip/allocate", `{"networkid":"` + simulator.InternetNetwork + `"}`, 422, ""},
		"address with an identity":                  {"POST", "v1/ip/allocate", `{"networkid":"` + simulator.InternetNetwork + `","tags":["infrastructure.cluster.x-k8s.io/uid=` + lily + `"]}`, 403, ""},
		"address in another project":                {"POST", "v1/ip/allocate", `{"networkid":"` + simulator.InternetNetwork + `","projectid":"` + projectB + `","tags":[` + quoted(own) + `]}`, 404, ""},
		"address in another cluster's network":      {"POST", "v1/ip/allocate", `{"networkid":"` + lilysCluster.Status.Network.ID + `","tags":[` + quoted(own) + `]}`, 404, ""},
		"certain address":                           {"POST", "v1/ip/allocate/203.0.113.140", `{}`, 404, ""},
		"tag on another cluster's address":          {"POST", "v1/ip", `{"ipaddress":"` + *lilysIP.Ipaddress + `","tags":[` + quoted(own) + `]}`, 409, ""},
		"tag on another cluster's static address":   {"POST", "v1/ip", `{"ipaddress":"` + lilysStatic + `","tags":[` + quoted(own) + `]}`, 409, ""},
		"tag on another control plane's address":    {"POST", "v1/ip", `{"ipaddress":"` + lilysControlPlane + `","tags":[` + quoted(own) + `]}`, 409, ""},
		"tag on a machine's address":                {"POST", "v1/ip", `{"ipaddress":"` + machineIP + `","tags":[` + quoted(own) + `]}`, 409, ""},
		"tag on another project's address":          {"POST", "v1/ip", `{"ipaddress":"` + theirStatic + `","tags":[` + quoted(own) + `]}`, 404, ""},
		"tags of others taken away":                 {"POST", "v1/ip", `{"ipaddress":"` + machineIP + `","tags":[]}`, 200, "no such thing"},
		"type of an address":                        {"POST", "v1/ip", `{"ipaddress":"` + *lilysIP.Ipaddress + `","type":"static"}`, 403, ""},
		"another cluster's address freed":           {"DELETE", "v1/ip/free/" + *lilysIP.Ipaddress, "", 403, ""},
		"another cluster's address freed, old form": {"POST", "v1/ip/free/" + *lilysIP.Ipaddress, "", 403, ""},
		"static address freed":                      {"DELETE", "v1/ip/free/" + byHand, "", 403, ""},
		"control plane's address freed":             {"DELETE", "v1/ip/free/" + lilysControlPlane, "", 403, ""},
		"machine's address freed":                   {"DELETE", "v1/ip/free/" + machineIP, "", 403, ""},
		"another project's address freed":           {"DELETE", "v1/ip/free/" + theirStatic, "", 404, ""},
		"another cluster's network":                 {"GET", "v1/network/" + lilysCluster.Status.Network.ID, "", 404, ""},
		"network freed":                             {"DELETE", "v1/network/free/" + lilysCluster.Status.Network.ID, "", 404, ""},
		"projects":                                  {"GET", "v1/project", "", 404, ""},
		"switches":                                  {"GET", "v1/switch", "", 404, ""},
		"path that leaves the metal-api":            {"GET", "v1/../../../lily/metalapi/v1/machine", "", 404, ""},
		"path with an escaped slash":                {"GET", "v1/machine/..%2F..%2Fmachine%2F" + lilysMachine, "", 404, ""},
		"body that is no object":                    {"POST", "v1/ip/find", `[]`, 400, ""},
		"body of another type":                      {"POST", "v1/ip/find", `{"projectid":5}`, 400, ""},
		"body that is too large":                    {"POST", "v1/ip/find", `{"name":"` + strings.Repeat("x", 100<<10) + `"}`, 413, ""},
	} {
		status, answer := env.ask(t, attack.method, "rose", attack.path, attack.body)
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
	for _, address := range []string{*lilysIP.Ipaddress, theirStatic, byHand, lilysStatic, lilysControlPlane, machineIP} {
		assert.NotEmpty(t, env.addressState(address).Project, address)
		assert.NotContains(t, env.addressState(address).Tags, own, address)
	}
	assert.Contains(t, env.addressState(machineIP).Tags, "machine.metal-stack.io/id="+lilysMachine)
}
