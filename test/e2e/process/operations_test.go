// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/logging"
	"metal-stack.io/infrastructure-apiserver/pkg/operation"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator/simtest"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
	"metal-stack.io/infrastructure-apiserver/test/framework/standalone"
)

// At the highest verbosity and audit level that are accepted.
func TestConsolePassword_IsInNoLogAuditEventOrRecord(t *testing.T) {
	t.Parallel()
	const team = "team-a"
	sim := simtest.Start(t, simulator.Config{DataCentre: simulator.DefaultDataCentre(4)})
	dir := t.TempDir()
	policy, audit := filepath.Join(dir, "policy"), filepath.Join(dir, "audit")
	require.NoError(t, os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n"), 0o600))
	s := standalone.Start(t, standalone.Options{MetalAPI: sim.URL, Bindings: []string{team + "=" + simulator.ProjectA}, Args: []string{
		"--v=" + strconv.Itoa(logging.MaxVerbosity), "--audit-policy-file=" + policy, "--audit-log-path=" + audit,
	}})
	ctx, client := t.Context(), clientOf(t, s).InfrastructureV1alpha4()
	_, err := client.MetalStackClusters(team).Create(ctx, objects.Cluster("c"), metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = client.MetalStackClusters(team).Allocate(ctx, "c", &v1alpha4.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = client.MetalStackMachines(team).Create(ctx, objects.Machine("node-1"), metav1.CreateOptions{})
	require.NoError(t, err)
	m, err := client.MetalStackMachines(team).Allocate(ctx, "node-1", &v1alpha4.Allocation{ClusterRef: &v1alpha4.LocalReference{Name: "c"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, sim.Sim.ReportInstalled(m.Status.Allocation.MachineID))

	body := &v1alpha4.MachineConsolePassword{Spec: v1alpha4.MachineConsolePasswordSpec{Reason: "no network since noon"}}
	answer, err := client.MetalStackMachines(team).ReadConsolePassword(ctx, "node-1", body, metav1.CreateOptions{})
	require.NoError(t, err)
	password := answer.Status.Password
	require.NotEmpty(t, password)
	_, err = client.MetalStackMachines(team).RequestPower(ctx, "node-1", &v1alpha4.MachinePower{Spec: v1alpha4.MachinePowerSpec{Action: v1alpha4.PowerCycle, Reason: "hangs"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	m, err = client.MetalStackMachines(team).Get(ctx, "node-1", metav1.GetOptions{})
	require.NoError(t, err)
	require.NotNil(t, m.Status.LastOperation)
	require.NoError(t, s.Stop())

	log := s.Log()
	assert.Contains(t, log, operation.ReasonConsolePasswordRead, "without a cluster, the log says who read it")
	assert.Contains(t, log, "no network since noon")
	assert.NotContains(t, log, password)
	for _, path := range []string{audit, filepath.Join(filepath.Dir(s.Kubeconfig), "records.db")} {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.NotContains(t, string(content), password, path)
		if path == audit {
			assert.Contains(t, string(content), "/metalstackmachines/node-1/consolepassword")
			assert.Contains(t, string(content), `"action":"Cycle"`, "other bodies are audited")
			assert.NotContains(t, string(content), "no network since noon", "not even the reason, which is in the body")
		}
	}
}
