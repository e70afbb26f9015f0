// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"testing"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

const (
	machineID = "e0ab02d2-27cd-5a5e-8efc-080ba80cf258"
	otherID   = "2294c949-88f6-5390-8154-fa53d93a3313"
	projectID = "00000000-0000-0000-0000-000000000000"
	sshKey    = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGqxmFyTKR1YbGDJiFXqkTBTGdWvLkfTOyYYpCdo4Qpn test@example"
)

func machine(edits ...func(*infrastructure.MetalStackMachine)) *infrastructure.MetalStackMachine {
	m := &infrastructure.MetalStackMachine{
		ObjectMeta: metav1.ObjectMeta{Name: "node-1", Namespace: "metal-stack", ResourceVersion: "1"},
		Spec:       infrastructure.MetalStackMachineSpec{Image: "ubuntu-24.04", MachineType: "v1-small-x86", Partition: "vagrant"},
	}
	for _, edit := range edits {
		edit(m)
	}
	return m
}

func firewall(edits ...func(*infrastructure.MetalStackFirewall)) *infrastructure.MetalStackFirewall {
	f := &infrastructure.MetalStackFirewall{
		ObjectMeta: metav1.ObjectMeta{Name: "fw-1", Namespace: "metal-stack", ResourceVersion: "1"},
		Spec:       infrastructure.MetalStackFirewallSpec{Image: "firewall-ubuntu-3.0", MachineType: "v1-small-x86"},
	}
	for _, edit := range edits {
		edit(f)
	}
	return f
}

func cluster(edits ...func(*infrastructure.MetalStackCluster)) *infrastructure.MetalStackCluster {
	c := &infrastructure.MetalStackCluster{
		ObjectMeta: metav1.ObjectMeta{Name: "cluster-1", Namespace: "metal-stack", ResourceVersion: "1"},
		Spec: infrastructure.MetalStackClusterSpec{
			ControlPlaneEndpoint: infrastructure.APIEndpoint{Host: "100.255.254.1", Port: 6443},
			ProjectID:            projectID,
			Partition:            "vagrant",
			PublicNetworkID:      "internet-vagrant-lab",
			FirewallSpec:         &infrastructure.MetalStackFirewallSpec{Image: "firewall-ubuntu-3.0", MachineType: "v1-small-x86"},
		},
	}
	for _, edit := range edits {
		edit(c)
	}
	return c
}

// says checks that there is one error for each line of want, and that it holds
// that line.
func says(t *testing.T, errs field.ErrorList, want ...string) {
	t.Helper()
	if !assert.Len(t, errs, len(want), "%v", errs) {
		return
	}
	for i, line := range want {
		assert.ErrorContains(t, errs[i], line)
	}
}
