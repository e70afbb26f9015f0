// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func shop(t *testing.T) *fakeServer {
	s := newFakeServer(t)
	s.machines = []*v1alpha4.MetalStackMachine{worker("worker-1"), discovered()}
	s.walls = []*v1alpha4.MetalStackFirewall{firewall("shop-1")}
	s.on("POST metalstackmachines/worker-1/power", http.StatusCreated, v1alpha4.MachinePower{})
	s.on("POST metalstackfirewalls/shop-1/power", http.StatusCreated, v1alpha4.MachinePower{})
	return s
}

func TestPower_SendsEachAction(t *testing.T) {
	t.Parallel()
	for use, action := range map[string]string{
		"on": "On", "off": "Off", "reset": "Reset", "cycle": "Cycle", "boot-disk": "BootDisk", "boot-pxe": "BootPXE", "boot-bios": "BootBIOS",
	} {
		s := shop(t)
		args := []string{"power", use, "worker-1", "--reason", "hangs", "--request-id=r1"}
		if use == "off" || use == "reset" || use == "cycle" || use == "boot-pxe" {
			args = append(args, "--yes")
		}
		o := s.run(args...)
		require.Zero(t, o.code, o.stderr)
		assert.Equal(t, "metalstackmachine/worker-1: "+action+" was sent to the machine's controller (BMC)\n", o.stdout)
		made := s.made()
		require.Len(t, made, 1)
		assert.Equal(t, team+"metalstackmachines/worker-1/power", made[0].Path)
		assert.Equal(t, map[string]any{"action": action, "reason": "hangs", "requestID": "r1"}, made[0].Body["spec"])
	}
}

func TestPower_RequestIsForTheObjectThatWasShown(t *testing.T) {
	t.Parallel()
	s := shop(t)
	require.Zero(t, s.run("power", "cycle", "msf/shop-1", "--yes").code)
	made := s.made()
	require.Len(t, made, 1)
	assert.Equal(t, team+"metalstackfirewalls/shop-1/power", made[0].Path)
	assert.Equal(t, "uid-of-shop-1", made[0].Body["metadata"].(map[string]any)["uid"])
}

func TestPower_SaysHowToFollow(t *testing.T) {
	t.Parallel()
	s := shop(t)
	o := s.run("power", "cycle", "--firewall", "shop-1", "-y", "--namespace=team-a", "--context=here", "--cluster=c")
	const flags = " --namespace=team-a --context=here --cluster=c --kubeconfig=/"
	assert.Contains(t, o.stderr, "kubectl metal wait firewall/shop-1 --for=phoned-home"+flags)
	assert.Contains(t, o.stderr, "kubectl metal log firewall/shop-1 --follow"+flags)
	assert.Equal(t, `'a b'\''c'`, quote("a b'c"))
}

func TestPower_DryRunAsksNothingAndIsTheServers(t *testing.T) {
	t.Parallel()
	s := shop(t)
	o := s.run("power", "cycle", "worker-1", "--dry-run=server")
	assert.Equal(t, "metalstackmachine/worker-1: Cycle would be sent (server dry run)\n", o.stdout)
	assert.Equal(t, "dryRun=All", s.made()[0].Query)

	o = s.run("power", "cycle", "worker-1", "--dry-run=client")
	assert.Equal(t, 1, o.code)
	assert.Contains(t, o.stderr, `--dry-run="client": must be none or server`)
}

// The server may say when a request can be repeated: that is the user's to decide.
func TestPower_IsNeverRepeated(t *testing.T) {
	t.Parallel()
	s := shop(t)
	busy := apierrors.NewTooManyRequests("too many operations", 1)
	s.on("POST metalstackmachines/worker-1/power", http.StatusTooManyRequests, busy.Status())
	o := s.run("power", "on", "worker-1")
	assert.Equal(t, 1, o.code)
	assert.Equal(t, "Error from server (TooManyRequests): too many operations\n", o.stderr)
	assert.Len(t, s.made(), 1)

	lost := apierrors.NewTimeoutError("metal-api: context deadline exceeded", 0)
	s.on("POST metalstackmachines/worker-1/power", http.StatusGatewayTimeout, lost.Status())
	assert.Contains(t, s.run("power", "on", "worker-1").stderr, "It may have been done.")
	assert.Len(t, s.made(), 2)
}

func TestPower_ShowsTheState(t *testing.T) {
	t.Parallel()
	s := shop(t)
	power := v1alpha4.MachinePower{Status: v1alpha4.MachinePowerStatus{State: "On", ObservedTime: at(4 * time.Minute), BMCVersion: "1.2", BIOSVersion: "3.4"}}
	power.Name = "worker-1"
	s.on("GET metalstackmachines/worker-1/power", http.StatusOK, power)
	const shown = "Power:    On, reported 2026-11-29T11:56:00Z (4m ago)\nBMC:      1.2\nBIOS:     3.4\n"
	assert.Equal(t, shown, s.run("power", "worker-1").stdout)
	assert.Equal(t, shown, s.run("power", "status", "machine/worker-1").stdout)
	assert.Contains(t, s.run("power", "worker-1", "-o", "yaml").stdout, "kind: MachinePower\n")
	assert.Equal(t, "On", s.run("power", "worker-1", "-o", "jsonpath={.status.state}").stdout)
	assert.Equal(t, "metalstackmachine.infrastructure.cluster.x-k8s.io/worker-1\n", s.run("power", "worker-1", "-o", "name").stdout)
}

func TestErrors_SayWhichRoleGrantsIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		request, role string
		args          []string
	}{
		{"POST metalstackmachines/worker-1/power", "metalstack-operator", []string{"power", "on", "worker-1"}},
		{"GET metalstackmachines/worker-1/power", "metalstack-operator", []string{"power", "worker-1"}},
		{"GET metalstackmachines/worker-1/log", "metalstack-operator", []string{"log", "worker-1"}},
		{"POST metalstackmachines/worker-1/identify", "metalstack-operator", []string{"identify", "on", "worker-1"}},
		{"POST metalstackmachines/worker-1/consolepassword", "metalstack-console", []string{"console-password", "worker-1", "--reason=x"}},
		{"POST metalstackmachines/worker-1/reinstall", "metalstack-reinstall", []string{"reinstall", "worker-1", "--reason=x", "--image=i"}},
		{"POST metalstackmachines/worker-1/lock", "metalstack-lock", []string{"lock", "worker-1", "--reason=x"}},
		{"DELETE metalstackmachines/worker-1/lock", "metalstack-lock", []string{"unlock", "worker-1", "--reason=x"}},
		{"GET metalstackmachines/worker-1", "view", []string{"describe", "worker-1"}},
		{"GET metalstackmachines", "view", []string{"ls"}},
	} {
		s := shop(t)
		s.on(c.request, http.StatusForbidden, apierrors.NewForbidden(infrastructure.Resource("metalstackmachines"), "worker-1", errors.New("no right")).Status())
		o := s.run(c.args...)
		assert.Equal(t, 1, o.code, c.request)
		assert.Empty(t, o.stdout)
		assert.Contains(t, o.stderr, `Error from server (Forbidden): metalstackmachines.infrastructure.cluster.x-k8s.io "worker-1" is forbidden: no right`, c.request)
		assert.Contains(t, o.stderr, "\nClusterRole that grants it: "+c.role, c.request)
	}

	s := shop(t)
	s.on("POST metalstackmachines/worker-1/power", http.StatusForbidden,
		apierrors.NewForbidden(infrastructure.Resource("metalstackmachines"), "worker-1", errors.New(`user "a" cannot operate resource "metalstackmachines/discovered"`)).Status())
	assert.Contains(t, s.run("power", "on", "worker-1").stderr, "the ClusterRole metalstack-discovered-operator grants this, in addition to metalstack-operator")
	s.on("POST metalstackmachines/worker-1/power", http.StatusForbidden,
		apierrors.NewForbidden(infrastructure.Resource("metalstackmachines"), "worker-1", errors.New(`user "a" cannot create resource "metalstackmachines/reinstall"`)).Status())
	assert.Contains(t, s.run("power", "boot-pxe", "worker-1", "--reason=x", "-y").stderr, "The ClusterRole metalstack-reinstall grants this, in addition to metalstack-operator")
}

func TestErrors_SayWhatWasMeant(t *testing.T) {
	t.Parallel()
	s := shop(t)
	for name, says := range map[string]string{
		"2294c949-88f6-5390-8154-fa53d93a3313": "worker-1 has that machine id.",
		"by-hand":                              "00000000-0000-0000-0000-000000000009 has that hostname.",
		"shop-1":                               "firewall/shop-1 has that name.",
		"unknown":                              "`kubectl metal ls --namespace=team-a` lists what there is.",
	} {
		o := s.run("describe", name)
		assert.Equal(t, 1, o.code)
		assert.Contains(t, o.stderr, `Error from server (NotFound): metalstackmachines.infrastructure.cluster.x-k8s.io "`+name+`" not found`)
		assert.Contains(t, o.stderr, says)
	}
	o := s.run("identify", "on", "worker-1")
	assert.Contains(t, o.stderr, "does not serve the subresource identify of metalstackmachines: it is older than this plugin")
}
