// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// workerInFull is what a question calls worker-1.
const workerInFull = "metalstackmachine/worker-1 (machine 2294c949-88f6-5390-8154-fa53d93a3313, namespace team-a, context here)"

func TestPower_AsksBeforeAMachineStops(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at    terminal
		phase string
		code  int
		sent  int
		says  string
	}{
		{terminal{interactive: true, input: "y\n"}, "Phoned Home", 0, 1, "drain the Node"},
		{terminal{interactive: true, input: "y\n"}, "Phoned Home", 0, 1, "worker-1 runs (Phoned Home), and its operating system is not shut down.\n"},
		{terminal{interactive: true, input: "\n"}, "Phoned Home", 1, 0, "not confirmed: nothing was sent"},
		{terminal{interactive: true, input: ""}, "Phoned Home", 1, 0, "not confirmed"},
		{terminal{input: "y\n"}, "Phoned Home", 1, 0, "nothing was sent: the input is no terminal, and this has to be confirmed, or --yes given: Off " + workerInFull + "? [y/N]"},
		{terminal{}, "Crashed", 1, 0, "The phase of metalstackmachine/worker-1 is Crashed: whatever runs on it is not shut down.\n"},
		{terminal{}, "Installing", 1, 0, "metalstackmachine/worker-1 is being installed (Installing), and the installation is cut off.\n"},
		{terminal{}, "Booting New Kernel", 1, 0, "is being installed (Booting New Kernel), and the installation is cut off.\n"},
	} {
		s := shop(t)
		s.machines[0].Status.Metal.Phase = c.phase
		o := s.runAt(c.at, "power", "off", "worker-1")
		assert.Equal(t, c.code, o.code, "%+v: %s", c, o.stderr)
		assert.Len(t, s.made(), c.sent, "%+v", c)
		assert.Contains(t, o.stderr, c.says)
	}
}

// A machine that was reported to be off has nothing to stop, unless it was switched on since.
func TestPower_DoesNotAskIfTheMachineIsOff(t *testing.T) {
	t.Parallel()
	on := &v1alpha4.MachineOperation{Action: "On", RequestTime: &metav1.MicroTime{Time: now.Add(-time.Minute)}, Outcome: v1alpha4.OperationSent}
	for _, c := range []struct {
		state    v1alpha4.PowerState
		observed *metav1.Time
		last     *v1alpha4.MachineOperation
		ready    metav1.ConditionStatus
		sent     int
	}{
		{"Off", at(2 * time.Minute), nil, metav1.ConditionFalse, 1},
		{"Off", at(0), on, metav1.ConditionFalse, 1},
		{"Off", at(2 * time.Minute), on, metav1.ConditionFalse, 0},
		{"Off", at(2 * time.Minute), nil, metav1.ConditionTrue, 0},
		{"On", at(0), nil, metav1.ConditionFalse, 0},
		{"Unknown", nil, nil, metav1.ConditionFalse, 0},
	} {
		s := shop(t)
		m := s.machines[0]
		m.Status.LastOperation, m.Status.Conditions[0].Status = c.last, c.ready
		s.on("GET metalstackmachines/worker-1/power", http.StatusOK, v1alpha4.MachinePower{Status: v1alpha4.MachinePowerStatus{State: c.state, ObservedTime: c.observed}})
		s.run("power", "cycle", "worker-1")
		assert.Len(t, s.made(), c.sent, "%+v", c)
	}
}

// What only switches on, or changes the next boot, stops nothing.
func TestPower_DoesNotAskForWhatStopsNothing(t *testing.T) {
	t.Parallel()
	s := shop(t)
	for _, use := range []string{"on", "boot-disk", "boot-bios"} {
		assert.Zero(t, s.run("power", use, "worker-1").code)
	}
}

// A boot from the network is a reinstallation, and is confirmed as one.
func TestPower_BootFromNetworkAsksForTheName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at   terminal
		args []string
		sent []string // queries
		says string
	}{
		{terminal{interactive: true, input: "worker-1\n"}, []string{"--reason=broken"}, []string{"dryRun=All", ""}, "wipes all of its disks"},
		{terminal{interactive: true, input: "y\n"}, []string{"--reason=broken"}, []string{"dryRun=All"}, "not confirmed: nothing was sent"},
		{terminal{}, []string{"--reason=broken"}, []string{"dryRun=All"}, "BootPXE " + workerInFull + ": to confirm, type its name, worker-1:"},
		{terminal{}, []string{"--reason=broken", "-y"}, []string{""}, "wipes all of its disks"},
		{terminal{interactive: true, input: "worker-1\n"}, nil, nil, "--reason is required"},
	} {
		s := shop(t)
		o := s.runAt(c.at, append([]string{"power", "boot-pxe", "worker-1"}, c.args...)...)
		var sent []string
		for _, r := range s.made() {
			sent = append(sent, r.Query)
		}
		assert.Equal(t, c.sent, sent, "%+v", c)
		assert.Contains(t, o.stderr, c.says, "%+v", c)
	}
	assert.Contains(t, shop(t).run("power", "boot-pxe", "--help").stdout, "all of its disks are wiped")
}

// A machine that is marked for a reinstallation is wiped by its next boot from the network,
// whichever action leads to it.
func TestPower_OfAMachineThatIsReinstalledAsksForTheName(t *testing.T) {
	t.Parallel()
	for use, action := range map[string]string{"on": "On", "off": "Off", "reset": "Reset", "cycle": "Cycle", "boot-pxe": "BootPXE", "boot-bios": "BootBIOS"} {
		for input, code := range map[string]int{"worker-1\n": 0, "y\n": 1} {
			s := shop(t)
			m := s.machines[0]
			m.Status.Conditions = append(m.Status.Conditions, condition("Reinstalling", "True", "Marked", "The machine is marked", time.Hour))
			s.on("GET metalstackmachines/worker-1/power", http.StatusOK, v1alpha4.MachinePower{Status: v1alpha4.MachinePowerStatus{State: "Off", ObservedTime: at(0)}})
			o := s.runAt(terminal{interactive: true, input: input}, "power", use, "worker-1", "--reason=broken")
			assert.Equal(t, code, o.code, "%s: %s", use, o.stderr)
			assert.Contains(t, o.stderr, "metalstackmachine/worker-1 is reinstalled (Marked): The machine is marked\nIts next boot from the network wipes all of its disks.\n")
			assert.Contains(t, o.stderr, action+" "+workerInFull+": to confirm, type its name, worker-1: ")
			if code == 0 {
				last := s.made()[len(s.made())-1]
				assert.Equal(t, "uid-of-worker-1", last.Body["metadata"].(map[string]any)["uid"])
				assert.Empty(t, last.Query)
			}
		}
	}
	s := shop(t)
	s.machines[0].Status.Conditions = []metav1.Condition{condition("Reinstalling", "True", "Marked", "", time.Hour)}
	assert.Zero(t, s.run("power", "boot-disk", "worker-1").code, "the disk is not wiped then")
}

// The lock of an object that is being deleted is what keeps its machine.
func TestUnlock_AsksForTheNameIfTheObjectIsBeingDeleted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at   terminal
		args []string
		sent int
	}{
		{terminal{interactive: true, input: "worker-1\n"}, nil, 1},
		{terminal{interactive: true, input: "y\n"}, nil, 0},
		{terminal{}, nil, 0},
		{terminal{}, []string{"--yes"}, 1},
	} {
		s := shop(t)
		s.machines[0].DeletionTimestamp = at(time.Minute)
		s.on("DELETE metalstackmachines/worker-1/lock", http.StatusOK, v1alpha4.MachineLock{})
		o := s.runAt(c.at, append([]string{"unlock", "worker-1", "--reason=case closed"}, c.args...)...)
		assert.Contains(t, o.stderr, "metalstackmachine/worker-1 is being deleted: without the lock, the machine is released, and its disks are wiped.\n")
		made := s.made()
		require.Len(t, made, c.sent, "%+v: %s", c, o.stderr)
		if c.sent == 0 {
			assert.Contains(t, o.stderr, "Unlock "+workerInFull+": to confirm, type its name, worker-1:")
			continue
		}
		assert.Equal(t, map[string]any{"uid": "uid-of-worker-1"}, made[0].Body["preconditions"])
		assert.Equal(t, "reason=case+closed", made[0].Query)
	}
}

// The flags can lead elsewhere than the context.
func TestQuestions_NameClusterAndServerOfTheFlags(t *testing.T) {
	t.Parallel()
	s := shop(t)
	o := s.run("power", "off", "worker-1", "--context=here", "--cluster=c", "--server="+s.URL)
	assert.Contains(t, o.stderr, "namespace team-a, context here, cluster c, server "+s.URL+")? [y/N]")
}

func TestReinstall_AsksForTheNameAfterTheServersChecks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at   terminal
		args []string
		code int
		sent []string // queries
		says string
	}{
		{terminal{interactive: true, input: "worker-1\n"}, nil, 0, []string{"dryRun=All", ""}, "All data on the disks of metalstackmachine/worker-1 are lost"},
		{terminal{interactive: true, input: "y\n"}, nil, 1, []string{"dryRun=All"}, "not confirmed"},
		{terminal{interactive: true, input: "worker-2\n"}, nil, 1, []string{"dryRun=All"}, "not confirmed"},
		{terminal{}, nil, 1, []string{"dryRun=All"}, "the input is no terminal"},
		{terminal{}, []string{"--yes", "--force"}, 0, []string{"dryRun=All", ""}, "kubectl metal log worker-1 --follow"},
		{terminal{}, []string{"--dry-run=server"}, 0, []string{"dryRun=All"}, ""},
	} {
		s := shop(t)
		s.on("POST metalstackmachines/worker-1/reinstall", http.StatusCreated, v1alpha4.MachineReinstall{Status: v1alpha4.MachineReinstallStatus{Image: "ubuntu-24.04.20260101"}})
		o := s.runAt(c.at, append([]string{"reinstall", "worker-1", "--image=ubuntu-24.04", "--reason=broken"}, c.args...)...)
		assert.Equal(t, c.code, o.code, "%+v: %s", c, o.stderr)
		assert.Contains(t, o.stderr, c.says)
		var sent []string
		for _, r := range s.made() {
			sent = append(sent, r.Query)
			assert.Equal(t, "uid-of-worker-1", r.Body["metadata"].(map[string]any)["uid"])
			image := "ubuntu-24.04"
			if r.Query == "" {
				image = "ubuntu-24.04.20260101" // what was confirmed
			}
			assert.Equal(t, image, r.Body["spec"].(map[string]any)["image"])
		}
		assert.Equal(t, c.sent, sent, "%+v", c)
		if c.code == 0 {
			assert.Contains(t, o.stdout, "ubuntu-24.04.20260101")
		}
	}
}

func TestReinstall_RefusalComesBeforeTheQuestion(t *testing.T) {
	t.Parallel()
	s := shop(t)
	s.on("POST metalstackmachines/worker-1/reinstall", http.StatusConflict,
		apierrors.NewConflict(infrastructure.Resource("metalstackmachines"), "worker-1", assert.AnError).Status())
	o := s.runAt(terminal{interactive: true, input: "worker-1\n"}, "reinstall", "worker-1", "--image=i", "--reason=broken")
	assert.Equal(t, 1, o.code)
	assert.NotContains(t, o.stderr, "type its name")
	assert.Contains(t, o.stderr, "Error from server (Conflict)")
}
