// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

type machineEdit = func(*infrastructure.MetalStackMachine)

func TestValidateMachine(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		edit machineEdit
		want []string
	}{
		"needs no more than image and size": {
			edit: func(m *infrastructure.MetalStackMachine) { m.Spec.Partition = "" },
		},
		"may say everything": {
			edit: func(m *infrastructure.MetalStackMachine) {
				m.Spec.ProviderID = "metalstack://" + machineID
				m.Spec.SSHKeys = []string{sshKey, sshKey + "\n"}
				m.Spec.Tags = []string{"plain", "team=storage", "example.org/tier=gold", "empty="}
				m.Spec.UserData = &infrastructure.SecretReference{Name: "node-1-bootstrap", Namespace: "metal-stack"}
				m.Spec.Networks = []string{"mpls-vagrant", machineID}
				m.Spec.DNSServers = []string{"203.0.113.53", "2001:db8::53"}
				m.Spec.NTPServers = []string{"ntp.example.org", "203.0.113.123"}
				m.Spec.FilesystemLayout = "default-small"
			},
		},
		"DNS servers are addresses": {
			edit: func(m *infrastructure.MetalStackMachine) {
				m.Spec.DNSServers = []string{"9.9.9.9", "dns.example.org", "fe80::1%eth0"}
			},
			want: []string{
				`spec.dnsServers[1]: Invalid value: "dns.example.org": must be an IP address`,
				`spec.dnsServers[2]: Invalid value: "fe80::1%eth0": must be an IP address`,
			},
		},
		"NTP servers are addresses or names": {
			edit: func(m *infrastructure.MetalStackMachine) { m.Spec.NTPServers = []string{"not a host!", ""} },
			want: []string{`spec.ntpServers[0]: Invalid value: "not a host!": must be an IP address`, "spec.ntpServers[1]: Required value"},
		},
		"servers are as many as metal-stack takes": {
			edit: func(m *infrastructure.MetalStackMachine) {
				m.Spec.DNSServers = []string{"1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4"}
				m.Spec.NTPServers = slices.Repeat([]string{"ntp.example.org"}, 6)
			},
			want: []string{"spec.dnsServers: Too many: 4: must have at most 3 items", "spec.ntpServers: Too many: 6: must have at most 5 items"},
		},
		"image is required": {
			edit: func(m *infrastructure.MetalStackMachine) { m.Spec.Image = "" },
			want: []string{"spec.image: Required value: must be an image or its alias, such as ubuntu-24.04"},
		},
		"machineType is required": {
			edit: func(m *infrastructure.MetalStackMachine) { m.Spec.MachineType = "" },
			want: []string{"spec.machineType: Required value: must be a metal-stack size"},
		},
		"ids have no spaces": {
			edit: func(m *infrastructure.MetalStackMachine) { m.Spec.MachineType = "v1 small" },
			want: []string{`spec.machineType: Invalid value: "v1 small": must be a metal-stack id`},
		},
		"partition becomes a label": {
			edit: func(m *infrastructure.MetalStackMachine) { m.Spec.Partition = strings.Repeat("x", 64) },
			want: []string{"spec.partition: Too long: may not be more than 63 bytes"},
		},
		"name may have dots": {
			edit: func(m *infrastructure.MetalStackMachine) { m.Name = "node.example.org" },
		},
		"name is a DNS name": {
			edit: func(m *infrastructure.MetalStackMachine) { m.Name = "node..Example" },
			want: []string{"metadata.name: Invalid value: \"node..Example\": a lowercase RFC 1123 subdomain"},
		},
		"ids are no paths": {
			edit: func(m *infrastructure.MetalStackMachine) {
				m.Spec.Networks = []string{"../machine/" + machineID, "..", "a/b", "a%2fb"}
			},
			want: []string{
				`spec.networks[0]: Invalid value: "../machine/` + machineID + `": must be a metal-stack id`,
				"spec.networks[1]: Invalid value", "spec.networks[2]: Invalid value", "spec.networks[3]: Invalid value",
			},
		},
		"ssh key is one line of text": {
			edit: func(m *infrastructure.MetalStackMachine) {
				m.Spec.SSHKeys = []string{
					sshKey + "\x1b[2J", sshKey + "\u2028", sshKey + "\x00", sshKey + "\r\n" + sshKey,
					sshKey + strings.Repeat("x", 1<<10), sshKey + strings.Repeat("x", 16<<10), "a=\"" + strings.Repeat("x", 16<<10) + "\" " + sshKey,
				}
			},
			want: []string{
				`spec.sshKeys[0]: Invalid value: "ssh-ed25519 AAAAC3Nz …": must be one public key on one line, without control characters`,
				"without control characters", "without control characters", "without control characters",
				"comment must not be more than 1024 bytes",
				"spec.sshKeys[5]: Too long: may not be more than 16384 bytes", "spec.sshKeys[6]: Too long",
			},
		},
		"name becomes the value of a tag": {
			edit: func(m *infrastructure.MetalStackMachine) { m.Name = strings.Repeat("x", 64) },
			want: []string{"must be no more than 63 "},
		},
		"provider ID is of a machine": {
			edit: func(m *infrastructure.MetalStackMachine) { m.Spec.ProviderID = "metalstack://node-1" },
			want: []string{`spec.providerID: Invalid value: "metalstack://node-1": must end in the id of a machine`},
		},
		"provider ID is in the partition": {
			edit: func(m *infrastructure.MetalStackMachine) { m.Spec.ProviderID = "metal://fra-equ01/" + machineID },
			want: []string{`must name the partition of the spec, "vagrant"`},
		},
		"ssh key is one": {
			edit: func(m *infrastructure.MetalStackMachine) {
				m.Spec.SSHKeys = []string{"garbage", sshKey + "\n" + sshKey, "# me\n" + sshKey}
			},
			want: []string{
				`spec.sshKeys[0]: Invalid value: "garbage": must be one public key`,
				`spec.sshKeys[1]: Invalid value: "ssh-ed25519 AAAAC3Nz …": must be one public key on one line`,
				`spec.sshKeys[2]: Invalid value: `,
			},
		},
		"tags are not repeated": {
			edit: func(m *infrastructure.MetalStackMachine) { m.Spec.Tags = []string{"a", "a", "k=1", "k=2"} },
			want: []string{`spec.tags[1]: Duplicate value: "a"`, `spec.tags[3]: Invalid value: "k=2": duplicate key: Node labels must be unique, and "k=1" has the same key`},
		},
		"tags that are pairs can be labels": {
			edit: func(m *infrastructure.MetalStackMachine) {
				m.Spec.Tags = []string{"contact=me@example.org", "a b=c", "long=" + strings.Repeat("x", 64), "x=y=z"}
			},
			want: []string{
				"spec.tags[0]: Invalid value: \"contact=me@example.org\": value must be a valid label value",
				"spec.tags[1]: Invalid value: \"a b=c\": key must be a valid label key",
				"spec.tags[2]: Invalid value:",
				"spec.tags[3]: Invalid value: \"x=y=z\"",
			},
		},
		"tags that say whose a machine is are ours": {
			edit: func(m *infrastructure.MetalStackMachine) {
				m.Spec.Tags = []string{
					infrastructure.UIDTag + "=" + otherID, infrastructure.ClusterIDTag + "=" + otherID,
					"machine.metal-stack.io/rack=r1", "cluster.metal-stack.io/id/namespace/service=x",
				}
			},
			want: []string{"spec.tags[0]: Forbidden", "spec.tags[1]: Forbidden", "spec.tags[2]: Forbidden", "spec.tags[3]: Forbidden"},
		},
		"plain tags are text": {
			edit: func(m *infrastructure.MetalStackMachine) {
				m.Spec.Tags = []string{"", "line\nbreak", strings.Repeat("x", 318)}
			},
			want: []string{"spec.tags[0]: Invalid value: \"\": must not be empty", "spec.tags[1]: Invalid value", "spec.tags[2]: Too long"},
		},
		"userData names a Secret": {
			edit: func(m *infrastructure.MetalStackMachine) {
				m.Spec.UserData = &infrastructure.SecretReference{Namespace: "Not/One"}
			},
			want: []string{"spec.userData.name: Required value", "spec.userData.namespace: Invalid value"},
		},
		"userData names a Secret of another namespace": {
			edit: func(m *infrastructure.MetalStackMachine) {
				m.Spec.UserData = &infrastructure.SecretReference{Name: "theirs", Namespace: "kube-system"}
			},
			want: []string{`spec.userData.namespace: Invalid value: "kube-system": must be the object's own namespace, which is "metal-stack"`},
		},
		"networks are not repeated": {
			edit: func(m *infrastructure.MetalStackMachine) { m.Spec.Networks = []string{"a", "b", "a", ""} },
			want: []string{`spec.networks[2]: Duplicate value: "a"`, "spec.networks[3]: Required value"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			says(t, ValidateMachine(machine(test.edit)), test.want...)
		})
	}
}

func TestValidateMachine_DoesNotQuotePrivateKey(t *testing.T) {
	t.Parallel()

	secret := "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjE"
	errs := ValidateMachine(machine(func(m *infrastructure.MetalStackMachine) { m.Spec.SSHKeys = []string{secret} }))
	says(t, errs, "spec.sshKeys[0]: Forbidden: must be a public key")
	assert.NotContains(t, errs.ToAggregate().Error(), "b3Blbn")
}

func allocated(m *infrastructure.MetalStackMachine) {
	m.Status.Allocation = &infrastructure.MachineAllocation{
		AllocationState: infrastructure.AllocationState{Phase: infrastructure.AllocationAllocated},
	}
}

func TestValidateMachineUpdate_AllocatedIsImmutable(t *testing.T) {
	t.Parallel()

	for field, edit := range map[string]machineEdit{
		"image":       func(m *infrastructure.MetalStackMachine) { m.Spec.Image = "debian-12" },
		"machineType": func(m *infrastructure.MetalStackMachine) { m.Spec.MachineType = "c1-large-x86" },
		"partition":   func(m *infrastructure.MetalStackMachine) { m.Spec.Partition = "fra-equ01" },
		"sshKeys":     func(m *infrastructure.MetalStackMachine) { m.Spec.SSHKeys = []string{sshKey} },
		"tags":        func(m *infrastructure.MetalStackMachine) { m.Spec.Tags = []string{"late"} },
		"networks":    func(m *infrastructure.MetalStackMachine) { m.Spec.Networks = []string{"late"} },
		"dnsServers":  func(m *infrastructure.MetalStackMachine) { m.Spec.DNSServers = []string{"9.9.9.9"} },
		"ntpServers":  func(m *infrastructure.MetalStackMachine) { m.Spec.NTPServers = []string{"ntp.example.org"} },

		"filesystemLayout": func(m *infrastructure.MetalStackMachine) { m.Spec.FilesystemLayout = "late" },
		"userData": func(m *infrastructure.MetalStackMachine) {
			m.Spec.UserData = &infrastructure.SecretReference{Name: "late"}
		},
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			says(t, ValidateMachineUpdate(machine(allocated, edit), machine(allocated)), "spec."+field+": Invalid value: ")
			says(t, ValidateMachineUpdate(machine(edit), machine()))

			refused := func(m *infrastructure.MetalStackMachine) {
				m.Status.Allocation = &infrastructure.MachineAllocation{AllocationState: infrastructure.AllocationState{Attempt: 1}}
			}
			says(t, ValidateMachineUpdate(machine(refused, edit), machine(refused)))
		})
	}
}

func TestValidateMachineUpdate_ProviderIDIsSetOnce(t *testing.T) {
	t.Parallel()

	id := func(id string) machineEdit {
		return func(m *infrastructure.MetalStackMachine) { m.Spec.ProviderID = id }
	}
	set := machine(id("metalstack://" + machineID))
	says(t, ValidateMachineUpdate(set, machine()))
	says(t, ValidateMachineUpdate(machine(allocated, id("metal://vagrant/"+machineID)), machine(allocated)))
	says(t, ValidateMachineUpdate(machine(id("metalstack://"+otherID)), set), `spec.providerID: Invalid value: "metalstack://`+otherID+`": field is immutable once set, and is "metalstack://`+machineID+`"`)
	says(t, ValidateMachineUpdate(machine(id("metal://vagrant/"+machineID)), set), "spec.providerID: Invalid value")
	says(t, ValidateMachineUpdate(machine(), set), "spec.providerID: Invalid value")
}

func TestValidateMachineUpdate_UnchangedInvalidSpecIsAccepted(t *testing.T) {
	t.Parallel()

	old := machine(allocated, func(m *infrastructure.MetalStackMachine) {
		m.Spec.Image, m.Spec.Tags = "", []string{"no label=\n"}
		m.Finalizers = []string{infrastructure.MachineFinalizer}
		m.DeletionTimestamp, m.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Unix(1, 0)}, ptr.To[int64](0)
	})
	updated := old.DeepCopy()
	updated.Finalizers = nil
	updated.Spec.SSHKeys = []string{} // The same as none.
	says(t, ValidateMachineUpdate(updated, old))
}

func TestValidateMachineStatusUpdate(t *testing.T) {
	t.Parallel()

	provisioned := func(m *infrastructure.MetalStackMachine) { m.Status.Initialization.Provisioned = ptr.To(true) }
	says(t, ValidateMachineStatusUpdate(machine(provisioned), machine()))
	says(t, ValidateMachineStatusUpdate(machine(), machine(provisioned)), "status.initialization.provisioned: Invalid value: null: must stay true")

	says(t, ValidateMachineStatusUpdate(machine(func(m *infrastructure.MetalStackMachine) {
		m.Status.Conditions = []metav1.Condition{{Type: "Allocated", Status: "Perhaps", Reason: "Allocating", LastTransitionTime: metav1.Now()}}
		m.Status.Addresses = []infrastructure.MachineAddress{{Type: "Postal", Address: "Main Street 1"}, {Type: infrastructure.MachineHostName}}
	}), machine()),
		`status.conditions[0].status: Unsupported value: "Perhaps"`,
		`status.addresses[0].type: Unsupported value: "Postal": supported values: "Hostname", "ExternalIP", "InternalIP", "InternalDNS"`,
		"status.addresses[1].address: Required value",
	)
}
