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
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

const (
	glance  = 20 * time.Millisecond
	oldNode = "old-node"
)

// estate is what another provider has allocated for a cluster: nothing of it
// carries an identity of ours.
type estate struct {
	network, address  string
	firewall, machine *metal.Machine
	deeds             int
}

func (w *world) privateNetwork() string {
	w.t.Helper()
	n, err := w.metal.AllocateNetwork(w.t.Context(), metal.NetworkRequest{Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Name: "old"})
	require.NoError(w.t, err)
	return n.ID
}

func (w *world) estate() estate {
	w.t.Helper()
	e := estate{network: w.privateNetwork()}
	ip, err := w.metal.AllocateIP(w.t.Context(), metal.IPRequest{Project: simulator.ProjectA, Network: simulator.InternetNetwork, Type: metal.TypeStatic, Name: "old"})
	require.NoError(w.t, err)
	e.address = ip.Address
	request := func(name, image string, networks ...string) metal.MachineRequest {
		return metal.MachineRequest{
			Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize, Image: image,
			Name: name, Hostname: name, Networks: networks, Tags: []string{"cluster.metal-stack.io/id=" + e.network},
		}
	}
	e.firewall, err = w.metal.AllocateFirewall(w.t.Context(), metal.FirewallRequest{MachineRequest: request("old-firewall", simulator.FirewallImage, e.network, simulator.InternetNetwork)})
	require.NoError(w.t, err)
	e.machine, err = w.metal.AllocateMachine(w.t.Context(), request(oldNode, simulator.MachineImage, e.network))
	require.NoError(w.t, err)
	e.deeds = len(w.Metal.Sim.Books().History)
	return e
}

// untouched: of an estate nothing was freed, and nothing was added to it.
func (w *world) untouched(e estate) {
	w.t.Helper()
	books := w.Metal.Sim.Books()
	require.Len(w.t, books.History, e.deeds, "nothing was allocated or freed")
	for _, m := range []*metal.Machine{e.firewall, e.machine} {
		account, found := books.Machine(m.ID)
		require.True(w.t, found)
		assert.Equal(w.t, m.AllocationUUID(), account.AllocationUUID)
	}
}

// blockForm is a block of commands in docs/migration.md that is run.
var blockForm = regexp.MustCompile("(?m)^<!-- test: (.+) -->\n```sh\n((?s:.*?))^```$")

// run runs blocks of commands of docs/migration.md, in one shell.
func (w *world) run(e estate, names ...string) string {
	w.t.Helper()
	blocks := map[string]string{}
	for _, match := range blockForm.FindAllStringSubmatch(read(w.t, filepath.Join(root, "docs", "migration.md")), -1) {
		blocks[match[1]] = match[2]
	}
	script := ""
	for _, name := range names {
		require.Contains(w.t, blocks, name)
		script += blocks[name]
	}
	dir := w.t.TempDir()
	machines := strings.Join([]string{oldNode, "metal://" + simulator.DefaultPartition + "/" + e.machine.ID, simulator.SmallSize, simulator.MachineImage, "old-template"}, " ")
	require.NoError(w.t, os.WriteFile(filepath.Join(dir, "machines.txt"), []byte(machines+"\n"), 0o600))
	bin, err := filepath.Abs(filepath.Join(root, "bin"))
	require.NoError(w.t, err)
	cmd := exec.CommandContext(w.t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "KUBECONFIG=" + filepath.Join(w.DataDir, "kubeconfig"),
		"NAMESPACE=" + team, "CLUSTER=c", "PARTITION=" + simulator.DefaultPartition, "NETWORK=" + e.network, "ADDRESS=" + e.address,
		"PUBLIC_NETWORK=" + simulator.InternetNetwork, "FIREWALL_ID=" + e.firewall.ID,
		"FIREWALL_IMAGE=" + simulator.FirewallImage, "FIREWALL_SIZE=" + simulator.SmallSize,
	}
	out, err := cmd.CombinedOutput()
	require.NoError(w.t, err, "%s\n%s", script, out)
	return string(out)
}

// takeOver does what docs/migration.md says, and waits until all is there.
func (w *world) takeOver(e estate) {
	w.t.Helper()
	w.run(e, "cluster", "firewall", "machines", "adopt")
	require.Eventually(w.t, func() bool {
		m, err := w.api.MetalStackMachines(team).Get(w.t.Context(), oldNode, metav1.GetOptions{})
		return err == nil && m.Status.Ready && m.Status.Initialization.Provisioned != nil
	}, limit, glance)
	shown := w.run(e, "check")
	assert.Regexp(w.t, "MetalStackCluster +c +Allocated +Allocated +true +true", shown)
	assert.Regexp(w.t, "MetalStackFirewall +c-firewall +Allocated +Adopted +true +true", shown)
	assert.Regexp(w.t, "MetalStackMachine +old-node +Allocated +Adopted +true +true", shown)
	c, err := w.api.MetalStackClusters(team).Get(w.t.Context(), "c", metav1.GetOptions{})
	require.NoError(w.t, err)
	assert.Equal(w.t, v1alpha4.APIEndpoint{Host: e.address, Port: 443}, c.Spec.ControlPlaneEndpoint)
}

func TestTakeover_AdoptsClusterAsItIs(t *testing.T) {
	t.Parallel()
	w := start(t)
	e := w.estate()
	w.discovered(e)
	w.takeOver(e)
	_, err := w.api.MetalStackMachines(team).Get(t.Context(), e.machine.ID, metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "it is shown once: %v", err)
	w.untouched(e)
}

// discovered waits until an estate is shown that no object stands for.
func (w *world) discovered(e estate) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		m, err := w.api.MetalStackMachines(team).Get(w.t.Context(), e.machine.ID, metav1.GetOptions{})
		return err == nil && !m.Status.Metal.Managed && m.Status.Ready
	}, limit, glance)
	require.Eventually(w.t, func() bool {
		f, err := w.api.MetalStackFirewalls(team).Get(w.t.Context(), e.firewall.ID, metav1.GetOptions{})
		return err == nil && !f.Status.Metal.Managed && f.Status.Ready
	}, limit, glance)
}

func TestTakeover_IsUndoneWithoutTouchingMetal(t *testing.T) {
	t.Parallel()
	w := start(t)
	e := w.estate()
	w.discovered(e)
	w.takeOver(e)
	w.run(e, "undo")
	_, err := w.api.MetalStackClusters(team).Get(t.Context(), "c", metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "%v", err)
	w.discovered(e)
	w.untouched(e)

	// And once more.
	w.takeOver(e)
	w.untouched(e)
}

func TestTakeover_ReleasesAllButNamedNetworksAndAddresses(t *testing.T) {
	t.Parallel()
	w := start(t)
	e := w.estate()
	w.discovered(e)
	w.takeOver(e)
	release := func(resource, name string) {
		require.Eventually(t, func() bool {
			return w.api.RESTClient().Delete().Namespace(team).Resource(resource).Name(name).SubResource("allocation").Do(t.Context()).Error() == nil
		}, limit, glance, name)
	}
	release("metalstackmachines", oldNode)
	release("metalstackfirewalls", "c-firewall")
	release("metalstackclusters", "c")
	books := w.Metal.Sim.Books()
	assert.Empty(t, books.Of(simulator.ProjectA))
	kept := map[string]bool{}
	for _, n := range books.Networks {
		kept[n.ID] = true
	}
	for _, ip := range books.IPs {
		kept[ip.Address] = true
	}
	assert.True(t, kept[e.network], "the network is kept")
	assert.True(t, kept[e.address], "the address is kept")
}
