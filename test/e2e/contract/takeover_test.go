// SPDX-License-Identifier: Apache-2.0

package contract_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

const (
	glance  = 20 * time.Millisecond
	oldNode = "old-node"
)

// foreignMetal is what another provider has allocated for a cluster: nothing
// of it carries an identity of ours.
type foreignMetal struct {
	network, address  string
	firewall, machine *metal.Machine
	operations        int
}

func (env *environment) privateNetwork() string {
	env.t.Helper()
	n, err := env.metal.AllocateNetwork(env.t.Context(), metal.NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Name: "old"})
	require.NoError(env.t, err)
	return n.ID
}

func (env *environment) foreignMetal() foreignMetal {
	env.t.Helper()
	e := foreignMetal{network: env.privateNetwork()}
	ip, err := env.metal.AllocateIP(env.t.Context(), metal.IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork, Type: metal.TypeStatic, Name: "old"})
	require.NoError(env.t, err)
	e.address = ip.Address
	request := func(name, image string, networks ...string) metal.MachineRequest {
		return metal.MachineRequest{
			Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize, Image: image,
			Name: name, Hostname: name, Networks: networks, Tags: []string{"cluster.metal-stack.io/id=" + e.network},
		}
	}
	e.firewall, err = env.metal.AllocateFirewall(env.t.Context(), metal.FirewallRequest{MachineRequest: request("old-firewall", simulator.FirewallImage, e.network, simulator.InternetNetwork)})
	require.NoError(env.t, err)
	e.machine, err = env.metal.AllocateMachine(env.t.Context(), request(oldNode, simulator.MachineImage, e.network))
	require.NoError(env.t, err)
	e.operations = len(env.Metal.Sim.Inventory().History)
	return e
}

// untouched: of foreign metal nothing was freed, and nothing was added to it.
func (env *environment) untouched(e foreignMetal) {
	env.t.Helper()
	inventory := env.Metal.Sim.Inventory()
	require.Len(env.t, inventory.History, e.operations, "nothing was allocated or freed")
	for _, m := range []*metal.Machine{e.firewall, e.machine} {
		state, found := inventory.Machine(m.ID)
		require.True(env.t, found)
		assert.Equal(env.t, m.AllocationUUID(), state.AllocationUUID)
	}
}

// blockForm is a block of commands in docs/migration.md that is run.
var blockForm = regexp.MustCompile("(?m)^<!-- test: (.+) -->\n```sh\n((?s:.*?))^```$")

// run runs blocks of commands of docs/migration.md, in one shell.
func (env *environment) run(e foreignMetal, names ...string) string {
	env.t.Helper()
	blocks := map[string]string{}
	for _, match := range blockForm.FindAllStringSubmatch(read(env.t, filepath.Join(root, "docs", "migration.md")), -1) {
		blocks[match[1]] = match[2]
	}
	script := ""
	for _, name := range names {
		require.Contains(env.t, blocks, name)
		script += blocks[name]
	}
	dir := env.t.TempDir()
	machines := strings.Join([]string{oldNode, "metal://" + simulator.DefaultPartition + "/" + e.machine.ID, simulator.SmallSize, simulator.MachineImage, "old-template"}, " ")
	require.NoError(env.t, os.WriteFile(filepath.Join(dir, "machines.txt"), []byte(machines+"\n"), 0o600))
	bin, err := filepath.Abs(filepath.Join(root, "bin"))
	require.NoError(env.t, err)
	cmd := exec.CommandContext(env.t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "KUBECONFIG=" + filepath.Join(env.DataDir, "kubeconfig"),
		"NAMESPACE=" + team, "CLUSTER=c", "PARTITION=" + simulator.DefaultPartition, "NETWORK=" + e.network, "ADDRESS=" + e.address,
		"PUBLIC_NETWORK=" + simulator.InternetNetwork, "FIREWALL_ID=" + e.firewall.ID,
		"FIREWALL_IMAGE=" + simulator.FirewallImage, "FIREWALL_SIZE=" + simulator.SmallSize,
	}
	out, err := cmd.CombinedOutput()
	require.NoError(env.t, err, "%s\n%s", script, out)
	return string(out)
}

// takeOver does what docs/migration.md says, and waits until all is there.
func (env *environment) takeOver(e foreignMetal) {
	env.t.Helper()
	env.run(e, "cluster", "firewall", "machines", "adopt")
	require.Eventually(env.t, func() bool {
		m, err := env.api.MetalStackMachines(team).Get(env.t.Context(), oldNode, metav1.GetOptions{})
		return err == nil && m.Status.Ready && m.Status.Initialization.Provisioned != nil
	}, limit, glance)
	shown := env.run(e, "check")
	assert.Regexp(env.t, "MetalStackCluster +c +Allocated +Allocated +true +true", shown)
	assert.Regexp(env.t, "MetalStackFirewall +c-firewall +Allocated +Adopted +true +true", shown)
	assert.Regexp(env.t, "MetalStackMachine +old-node +Allocated +Adopted +true +true", shown)
	c, err := env.api.MetalStackClusters(team).Get(env.t.Context(), "c", metav1.GetOptions{})
	require.NoError(env.t, err)
	assert.Equal(env.t, v1alpha4.APIEndpoint{Host: e.address, Port: 443}, c.Spec.ControlPlaneEndpoint)
}

func TestTakeover_AdoptsClusterAsItIs(t *testing.T) {
	t.Parallel()
	env := startWith(t, testserver.Options{OpenAPI: true}) // for kubectl apply
	e := env.foreignMetal()
	env.discovered(e)
	env.takeOver(e)
	_, err := env.api.MetalStackMachines(team).Get(t.Context(), e.machine.ID, metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "it is shown once: %v", err)
	env.untouched(e)
}

// discovered waits until foreign metal is shown that no object stands for.
func (env *environment) discovered(e foreignMetal) {
	env.t.Helper()
	require.Eventually(env.t, func() bool {
		m, err := env.api.MetalStackMachines(team).Get(env.t.Context(), e.machine.ID, metav1.GetOptions{})
		return err == nil && !m.Status.Metal.Managed && m.Status.Ready
	}, limit, glance)
	require.Eventually(env.t, func() bool {
		f, err := env.api.MetalStackFirewalls(team).Get(env.t.Context(), e.firewall.ID, metav1.GetOptions{})
		return err == nil && !f.Status.Metal.Managed && f.Status.Ready
	}, limit, glance)
}

func TestTakeover_IsUndoneWithoutTouchingMetal(t *testing.T) {
	t.Parallel()
	env := startWith(t, testserver.Options{OpenAPI: true}) // for kubectl apply
	e := env.foreignMetal()
	env.discovered(e)
	env.takeOver(e)
	env.run(e, "undo")
	_, err := env.api.MetalStackClusters(team).Get(t.Context(), "c", metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "%v", err)
	env.discovered(e)
	env.untouched(e)

	// And once more.
	env.takeOver(e)
	env.untouched(e)
}

func TestTakeover_ReleasesAllButNamedNetworksAndAddresses(t *testing.T) {
	t.Parallel()
	env := startWith(t, testserver.Options{OpenAPI: true}) // for kubectl apply
	e := env.foreignMetal()
	env.discovered(e)
	env.takeOver(e)
	release := func(resource, name string) {
		require.Eventually(t, func() bool {
			return env.api.RESTClient().Delete().Namespace(team).Resource(resource).Name(name).SubResource("allocation").Do(t.Context()).Error() == nil
		}, limit, glance, name)
	}
	release("metalstackmachines", oldNode)
	release("metalstackfirewalls", "c-firewall")
	release("metalstackclusters", "c")
	inventory := env.Metal.Sim.Inventory()
	assert.Empty(t, inventory.AllocatedIn(simulator.ProjectA))
	kept := map[string]bool{}
	for _, n := range inventory.Networks {
		kept[n.ID] = true
	}
	for _, ip := range inventory.IPs {
		kept[ip.Address] = true
	}
	assert.True(t, kept[e.network], "the network is kept")
	assert.True(t, kept[e.address], "the address is kept")
}
