// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// A boot from the network wipes the disks of an allocated machine, and installs it.
func TestPower_BootFromNetworkIsRefusedAsAReinstallation(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	m := env.machine("node")
	id := m.Status.Allocation.MachineID
	require.NoError(t, env.sim.Lock(id, "forensics"))
	requireCode(t, http.StatusConflict, env.power(env.o, "node", infrastructure.PowerBootPXE, ""), "locked", "forensics")
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerBootDisk, ""), "a lock does not matter to others")
	require.NoError(t, env.sim.Unlock(id))

	m = env.get("node")
	m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "cluster.x-k8s.io/v1beta2", Kind: "Machine", Name: "worker-1"}}
	env.machines.put(m)
	dryRun := func() error {
		_, err := env.o.RequestPower(env.o.WithDryRun(env.context()), target("node"), infrastructure.MachinePowerSpec{Action: infrastructure.PowerBootPXE, Reason: "broken"})
		return err
	}
	for _, err := range []error{env.power(env.o, "node", infrastructure.PowerBootPXE, ""), dryRun()} {
		requireCode(t, http.StatusUnprocessableEntity, err, "MachinePower", "spec.action", "worker-1", "use reinstall with force")
	}
	require.Equal(t, 1, env.calls()["machine-power"])

	_, err := env.reinstall(env.o, target("node"), exactImage, true)
	require.NoError(t, err)
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerBootPXE, ""), "it is marked already")
}

func TestPower_BootFromNetworkHasItsEventFirst(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerBootPXE, "r1"))
	require.Equal(t, []string{
		`The power action "BootPXE", after which the next boot wipes the disks and installs the image, is requested by "alice@example.org": it hangs`,
	}, env.events.notes())
	up := env.down("machine-power", http.StatusForbidden, "not you")
	requireCode(t, http.StatusServiceUnavailable, env.power(env.o, "node", infrastructure.PowerBootPXE, "r2"), "not you")
	up()
	notes := env.events.notes()
	require.Len(t, notes, 2)
	require.Contains(t, notes[1], `The power action "BootPXE" was not sent (`)
}

// Whoever does not know whether it was sent is told how to keep what is on the disks.
func TestPower_UncertainBootFromNetworkNamesBootDisk(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	env.machine("node")
	const advice = "the next boot of the machine may wipe the disks and install the image: request BootDisk before it is switched on or reset, to have it boot from the disk"
	up := env.withoutQueue()
	for range 2 { // the call, and its repetition
		requireCode(t, http.StatusGatewayTimeout, env.power(env.o, "node", infrastructure.PowerBootPXE, "r1"),
			`the power action "BootPXE" may have been sent to the machine's controller: `+advice+", or request it again, with another requestID: ")
	}
	notes := env.events.notes()
	require.Len(t, notes, 2)
	require.Contains(t, notes[1], `It is not known whether the power action "BootPXE" was sent: `+advice+" (")
	require.Contains(t, notes[1], `), requested by "alice@example.org": it hangs`)
	err := env.power(env.o, "node", infrastructure.PowerReset, "r2")
	requireCode(t, http.StatusGatewayTimeout, err, "look at the power state")
	require.NotContains(t, err.Error(), "BootDisk")
	up()
	require.NoError(t, env.power(env.o, "node", infrastructure.PowerBootDisk, "r3"))
}
