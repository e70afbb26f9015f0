// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/render"
)

// manyKinds has a machine of each kind that a list shows otherwise.
func manyKinds(t *testing.T) *fakeServer {
	s := shop(t)
	crashed := worker("worker-2-with-a-name-as-long-as-those-of-cluster-api-are")
	crashed.Status.Metal.Phase, crashed.Status.Metal.Locked = "Crashed", true
	crashed.Status.Conditions = []metav1.Condition{
		condition("Ready", "False", "CrashLoop", "provisioning restarts", time.Hour),
		condition("MetalIssues", "True", "CrashLoop", "Provisioning has restarted several times: \x1b[31mkernel panic\x1b[0m - not syncing: Attempted to kill init", time.Hour),
	}
	crashed.Status.Metal.Rack = "fra-01-rack-2"
	pending := worker("worker-3")
	pending.Status = v1alpha4.MetalStackMachineStatus{Conditions: []metav1.Condition{condition("Ready", "False", "NotAllocated", "", time.Minute)}}
	deleting := worker("worker-4")
	deleting.DeletionTimestamp, deleting.Status.Metal.Partition, deleting.Status.Metal.Rack, deleting.Status.Metal.Phase = at(time.Minute), "muc-01", "", "Releasing"
	reinstalled := worker("worker-5")
	reinstalled.Status.Conditions = append(reinstalled.Status.Conditions, condition("Reinstalling", "True", "Marked", "", time.Minute))
	reinstalled.Status.Metal.Partition, reinstalled.Status.Metal.Rack = "muc-01", "muc-01-rack-1"
	silent := firewall("shop-2")
	silent.Namespace = "team-b"
	silent.Status.Conditions = []metav1.Condition{
		condition("Ready", "False", "Unreachable", "", 3*time.Minute), condition("MetalIssues", "True", "Silent", "No event for 8 minutes", 3*time.Minute),
	}
	s.machines = append(s.machines, crashed, pending, deleting, reinstalled)
	s.walls = append(s.walls, silent)
	return s
}

func TestList_FitsTheTerminal(t *testing.T) {
	t.Parallel()
	s := manyKinds(t)
	for width, file := range map[int]string{80: "ls-80", 120: "ls-120", 0: "ls-pipe"} {
		o := s.runAt(terminal{style: render.Style{Width: width}}, "ls", "-A")
		require.Zero(t, o.code, o.stderr)
		golden(t, file, o.stdout)
		assertWidth(t, width, o.stdout)
	}
	golden(t, "ls-wide", s.runAt(terminal{style: render.Style{Width: 80}}, "ls", "-o", "wide").stdout)
}

func TestList_ShowsThatReadyIsUnknown(t *testing.T) {
	t.Parallel()
	s := shop(t)
	s.machines[0].Status.Conditions = []metav1.Condition{condition("Ready", "Unknown", "NotObserved", "", time.Minute)}
	s.machines[1].Status.Conditions = nil
	s.walls[0].Status.Conditions[0].Status = metav1.ConditionFalse
	o := s.run("ls")
	assert.Contains(t, o.stdout, "fra-01: 2 machines, 1 firewall, 1 not ready, 2 unknown\n")
	assert.Regexp(t, `worker-1 +machine +Unknown +Phoned Home`, o.stdout)
	assert.Regexp(t, `0009 +machine +Unknown`, o.stdout)
	assert.Regexp(t, `shop-1 +firewall +False`, o.stdout)
}

func TestIssues_FitTheTerminal(t *testing.T) {
	t.Parallel()
	s := manyKinds(t)
	for width, file := range map[int]string{80: "issues-80", 120: "issues-120"} {
		o := s.runAt(terminal{style: render.Style{Width: width}}, "issues", "--all-namespaces")
		require.Zero(t, o.code, o.stderr)
		golden(t, file, o.stdout)
		assertWidth(t, width, o.stdout)
	}
	golden(t, "issues-wide", s.run("issues", "-o", "wide").stdout)
	assert.Equal(t, "metalstackmachine.infrastructure.cluster.x-k8s.io/worker-2-with-a-name-as-long-as-those-of-cluster-api-are\n"+
		"metalstackfirewall.infrastructure.cluster.x-k8s.io/shop-2\n", s.run("issues", "-o=name").stdout)

	o := shop(t).run("issues")
	assert.Empty(t, o.stdout)
	assert.Equal(t, "No issues found in namespace team-a, of 3 objects.\n", o.stderr)
}

func assertWidth(t *testing.T, width int, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		assert.True(t, width == 0 || utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) <= width, "wider than %d: %q", width, line)
	}
}

func TestList_PrintsForPrograms(t *testing.T) {
	t.Parallel()
	s := shop(t)
	assert.Equal(t, "worker-1 00000000-0000-0000-0000-000000000009 shop-1", s.run("ls", "-o", "jsonpath={.items[*].metadata.name}").stdout)
	o := s.run("ls", "-o", "yaml")
	assert.Contains(t, o.stdout, "kind: MetalStackFirewall\n")
	assert.Contains(t, o.stdout, "kind: List\n")
	assert.Contains(t, s.run("ls", "-o=xml").stderr, `unable to match a printer suitable for the output format "xml"`)
	assert.Equal(t, "No machines or firewalls found in namespace team-a.\n", newFakeServer(t).run("ls").stderr)
}

// A pipe, a file and NO_COLOR get text, whatever a server's text has in it.
func TestOutput_HasColoursOnATerminalOnly(t *testing.T) {
	t.Parallel()
	s := manyKinds(t)
	describable(s)
	for _, args := range [][]string{{"ls", "-A"}, {"issues"}, {"describe", "worker-1"}, {"log", "worker-1"}} {
		assert.NotContains(t, s.run(args...).stdout, "\x1b", args)
		assert.Contains(t, s.runAt(terminal{style: render.Style{Colors: true, Width: 100}}, args...).stdout, "\x1b[", args)
	}
	assert.NotContains(t, s.runAt(terminal{style: render.Style{Colors: true}}, "issues").stdout, "\x1b[31mkernel panic")
}

func describable(s *fakeServer) {
	s.on("GET metalstackmachines/worker-1/power", http.StatusOK, v1alpha4.MachinePower{Status: v1alpha4.MachinePowerStatus{State: "On", ObservedTime: at(2 * time.Minute), BMCVersion: "1.2"}})
	s.on("GET metalstackmachines/worker-1/log", http.StatusOK, v1alpha4.MachineLog{Events: []v1alpha4.MetalEvent{
		{Event: "PXE Booting", Time: at(71 * time.Hour)}, {Event: "Installing", Message: "install ubuntu", Time: at(70 * time.Hour)},
		{Event: "Phoned Home", Message: "system up", Time: at(time.Minute)},
	}})
	s.on("GET /api/v1/namespaces/team-a/events", http.StatusOK, eventList(
		corev1.Event{Type: "Normal", Reason: "PowerRequested", Message: "Cycle, requested by alice: does not answer", EventTime: metav1.MicroTime{Time: now.Add(-time.Hour)}},
		corev1.Event{Type: "Warning", Reason: "AllocationRefused", Message: "no machine available", LastTimestamp: *at(71 * time.Hour)},
	))
	owner := func(kind, name, uid string, status map[string]any, owners ...map[string]any) map[string]any {
		return map[string]any{
			"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": kind, "status": status,
			"metadata": map[string]any{"name": name, "namespace": "team-a", "uid": uid, "ownerReferences": owners},
		}
	}
	ref := func(kind, name, uid string) map[string]any {
		return map[string]any{"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": kind, "name": name, "uid": uid, "controller": true}
	}
	const capi = "GET /apis/cluster.x-k8s.io/v1beta2/namespaces/team-a/"
	s.on(capi+"machines/machine-of-worker-1", http.StatusOK, owner("Machine", "machine-of-worker-1", "m",
		map[string]any{"phase": "Running", "nodeRef": map[string]any{"name": "worker-1"}}, ref("MachineSet", "shop-md-0-x", "s")))
	s.on(capi+"machinesets/shop-md-0-x", http.StatusOK, owner("MachineSet", "shop-md-0-x", "s", nil, ref("MachineDeployment", "shop-md-0", "d")))
	s.on(capi+"machinedeployments/shop-md-0", http.StatusForbidden, apierrors.NewForbidden(schema.GroupResource{Group: "cluster.x-k8s.io", Resource: "machinedeployments"}, "shop-md-0", errors.New("no right")).Status())
}

func TestDescribe_ShowsAllInOne(t *testing.T) {
	t.Parallel()
	s := shop(t)
	describable(s)
	m := s.machines[0]
	m.Status.LastOperation = &v1alpha4.MachineOperation{
		Action: "Cycle", User: "alice", Reason: "does not answer", RequestTime: &metav1.MicroTime{Time: now.Add(-time.Hour)}, Outcome: v1alpha4.OperationSent,
		AllocationUUID: m.Status.Metal.AllocationUUID,
	}
	m.Status.Conditions = append(m.Status.Conditions, condition("PowerRequested", "True", "EventObserved", "Phoned Home followed", time.Hour))
	for width, file := range map[int]string{80: "describe-80", 120: "describe-120"} {
		o := s.runAt(terminal{style: render.Style{Width: width}}, "describe", "worker-1")
		require.Zero(t, o.code, o.stderr)
		golden(t, file, o.stdout)
	}
	assert.Contains(t, s.run("describe", "worker-1", "-o=yaml").stdout, "kind: MetalStackMachine\n")
}

// The page for users shows what is printed.
func TestDocs_ShowWhatIsPrinted(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/kubectl-metal.md")
	require.NoError(t, err)
	for _, file := range []string{"offers-80", "can-i-have-no", "ls-120", "issues-120", "describe-120"} {
		shown, err := os.ReadFile(filepath.Join("testdata", file+".golden"))
		require.NoError(t, err)
		assert.Contains(t, string(page), string(shown), file)
	}
	var commands func(c *cobra.Command)
	commands = func(c *cobra.Command) {
		if c.Runnable() && c.HasParent() && c.Name() != "help" {
			assert.Contains(t, string(page), "`"+strings.TrimPrefix(strings.SplitN(c.CommandPath(), " ", 4)[2], " "), c.CommandPath())
		}
		for _, sub := range c.Commands() {
			commands(sub)
		}
	}
	commands(NewCommand(Environment{}))
}

// A user with view only sees what view shows, and why there is no more.
func TestDescribe_SaysWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := shop(t)
	forbidden := apierrors.NewForbidden(infrastructure.Resource("metalstackmachines"), "worker-1", errors.New("no right")).Status()
	for _, request := range []string{"GET metalstackmachines/worker-1/power", "GET metalstackmachines/worker-1/log", "GET /api/v1/namespaces/team-a/events"} {
		s.on(request, http.StatusForbidden, forbidden)
	}
	o := s.run("describe", "worker-1")
	require.Zero(t, o.code, o.stderr)
	assert.Equal(t, 4, strings.Count(o.stdout, "cannot be read: "), o.stdout) // and the Machine
	assert.Contains(t, o.stdout, "b0f0ad6c-6a39-4d46-b1a9-2f0f6bbd8b6c")
}

func TestLog_PrintsTheEvents(t *testing.T) {
	t.Parallel()
	s := shop(t)
	describable(s)
	golden(t, "log", s.run("log", "worker-1").stdout)
	assert.Contains(t, s.run("log", "worker-1", "-o=json").stdout, `"kind": "MachineLog"`)
	s.on("GET metalstackmachines/worker-1/log", http.StatusOK, v1alpha4.MachineLog{})
	assert.Equal(t, "metalstackmachine/worker-1 has sent no event in its allocation.\n", s.run("log", "worker-1").stderr)
	assert.Contains(t, s.run("log", "worker-1", "-f", "-o=json").stderr, "cannot be used with --output")
}
