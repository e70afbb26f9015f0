// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// machineLike is what machines and firewalls have in common. Pointers point
// into the object.
type machineLike struct {
	object      runtime.Object
	meta        *metav1.ObjectMeta
	providerID  *string
	image       string
	machineType string
	partition   string
	sshKeys     []string
	tags        []string
	networks    []string

	dnsServers, ntpServers []string
	filesystemLayout       string

	rules *infrastructure.FirewallRules
	// userData is the Secret that a firewall is not allocated without.
	userData *infrastructure.SecretReference
	// controller configures a firewall-controller, which reads its kubeconfig from the user data.
	controller *infrastructure.FirewallController
	status     infrastructure.MachineLikeStatus
}

var _ provisionedRecord = &machineLike{}

// allocation is never nil.
func (m *machineLike) allocation() *infrastructure.MachineAllocation {
	if *m.status.Allocation == nil {
		return &infrastructure.MachineAllocation{}
	}
	return *m.status.Allocation
}

// identityUID is the uid that its metal carries.
func (m *machineLike) identityUID() types.UID {
	if uid := m.allocation().UID; uid != "" {
		return uid
	}
	return m.meta.UID
}

func (m *machineLike) objectMeta() *metav1.ObjectMeta         { return m.meta }
func (m *machineLike) conditions() *[]metav1.Condition        { return m.status.Conditions }
func (m *machineLike) state() *infrastructure.AllocationState { return &m.allocation().AllocationState }
func (m *machineLike) ready() bool                            { return *m.status.Ready }
func (m *machineLike) initialization() *infrastructure.Initialization {
	return m.status.Initialization
}

func (m *machineLike) initAllocation() {
	if *m.status.Allocation == nil {
		*m.status.Allocation = &infrastructure.MachineAllocation{}
	}
}

func machineLikeOfMachine(m *infrastructure.MetalStackMachine) *machineLike {
	return &machineLike{
		object: m, meta: &m.ObjectMeta, providerID: &m.Spec.ProviderID,
		image: m.Spec.Image, machineType: m.Spec.MachineType, partition: m.Spec.Partition,
		sshKeys: m.Spec.SSHKeys, tags: m.Spec.Tags, networks: m.Spec.Networks,
		dnsServers: m.Spec.DNSServers, ntpServers: m.Spec.NTPServers, filesystemLayout: m.Spec.FilesystemLayout,
		status: m.Status.MachineLike(),
	}
}

func machineLikeOfFirewall(f *infrastructure.MetalStackFirewall) *machineLike {
	return &machineLike{
		object: f, meta: &f.ObjectMeta, providerID: &f.Spec.ProviderID,
		image: f.Spec.Image, machineType: f.Spec.MachineType, partition: f.Spec.Partition,
		sshKeys: f.Spec.SSHKeys, networks: f.Spec.Networks,
		dnsServers: f.Spec.DNSServers, ntpServers: f.Spec.NTPServers, filesystemLayout: f.Spec.FilesystemLayout,
		rules: f.Spec.Rules, userData: f.Spec.UserData, controller: f.Spec.Controller,
		status: f.Status.MachineLike(),
	}
}

// machineLikeKind is MetalStackMachine or MetalStackFirewall, with its records.
type machineLikeKind struct {
	recordStore[*machineLike]
	name     string
	resource schema.GroupResource
	// role is that of its metal.
	role string
}

func newMachineKind(r Records[*infrastructure.MetalStackMachine]) *machineLikeKind {
	return &machineLikeKind{
		recordStore: recordAdapter[*infrastructure.MetalStackMachine, *machineLike]{r, machineLikeOfMachine},
		name:        "MetalStackMachine", resource: machineResource, role: metal.RoleMachine,
	}
}

func newFirewallKind(r Records[*infrastructure.MetalStackFirewall]) *machineLikeKind {
	return &machineLikeKind{
		recordStore: recordAdapter[*infrastructure.MetalStackFirewall, *machineLike]{r, machineLikeOfFirewall},
		name:        "MetalStackFirewall", resource: firewallResource, role: metal.RoleFirewall,
	}
}

func (k *machineLikeKind) refOf(m *machineLike) objectRef {
	return objectRef{k.resource, m.meta.Namespace, m.meta.Name}
}
