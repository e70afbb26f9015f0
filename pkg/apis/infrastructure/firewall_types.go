// SPDX-License-Identifier: Apache-2.0

package infrastructure

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackFirewall is one machine that guards a cluster's private network.
type MetalStackFirewall struct {
	metav1.TypeMeta
	metav1.ObjectMeta

	Spec   MetalStackFirewallSpec
	Status MetalStackFirewallStatus
}

// +k8s:deepcopy-gen:interfaces=k8s.io/apimachinery/pkg/runtime.Object

// MetalStackFirewallList is a list of MetalStackFirewall.
type MetalStackFirewallList struct {
	metav1.TypeMeta
	metav1.ListMeta

	Items []MetalStackFirewall
}

// MetalStackFirewallSpec is what the user specifies of a firewall.
type MetalStackFirewallSpec struct {
	Image       string
	MachineType string
	Partition   string
	ProviderID  string
	SSHKeys     []string
	UserData    *SecretReference
	Networks    []string
	Rules       *FirewallRules

	DNSServers       []string
	NTPServers       []string
	FilesystemLayout string

	Controller          *FirewallController
	ProvisioningTimeout *metav1.Duration
	AutoUpdate          *FirewallAutoUpdate
}

// FirewallController is the configuration of a firewall-controller, which can be changed
// while the firewall runs.
type FirewallController struct {
	Interval               *metav1.Duration
	Version                string
	URL                    string
	RateLimits             []FirewallRateLimit
	EgressIPs              []FirewallEgressIPs
	InternalPrefixes       []string
	AllowedNetworks        FirewallAllowedNetworks
	DNSServer              string
	LogAcceptedConnections bool
	NftablesExporter       FirewallNftablesExporter
	SilenceTimeout         *metav1.Duration
}

// FirewallRateLimit limits what a firewall receives from a network, in MiB/s.
type FirewallRateLimit struct {
	NetworkID string
	Rate      int64
}

// FirewallEgressIPs are the source addresses of connections into a network.
type FirewallEgressIPs struct {
	NetworkID string
	IPs       []string
}

// FirewallAllowedNetworks limit what policies and Services of a workload cluster can open.
type FirewallAllowedNetworks struct {
	Ingress []string
	Egress  []string
}

// FirewallNftablesExporter is the exporter of the metrics of a firewall's rules.
type FirewallNftablesExporter struct {
	Version string
	URL     string
}

// FirewallAutoUpdate is when a firewall is replaced for a newer image.
type FirewallAutoUpdate struct {
	MaintenanceWindow *MaintenanceWindow
}

// MaintenanceWindow is a time of certain days.
type MaintenanceWindow struct {
	Days     []string
	Begin    string
	Duration metav1.Duration
	TimeZone string
}

// FirewallRules are the rules of a firewall from its first boot on.
type FirewallRules struct {
	Egress  []FirewallEgressRule
	Ingress []FirewallIngressRule
}

// FirewallEgressRule allows connections out of the private network.
type FirewallEgressRule struct {
	Protocol string
	Ports    []int32
	To       []string
	Comment  string
}

// FirewallIngressRule allows connections into the private network.
type FirewallIngressRule struct {
	Protocol string
	Ports    []int32
	To       []string
	From     []string
	Comment  string
}

// MetalStackFirewallStatus is what is known of a firewall: the same as of a machine, and
// what the controller manager records of its firewall-controller.
type MetalStackFirewallStatus struct {
	Ready          bool
	Initialization Initialization
	Addresses      []MachineAddress
	FailureDomain  string
	Conditions     []metav1.Condition
	Metal          *Metal
	Allocation     *MachineAllocation
	LastOperation  *MachineOperation
	Deletion       *Deletion

	Distance         int32
	Controller       *FirewallControllerStatus
	ManagementAccess *FirewallManagementAccess
	WorkloadAccess   *FirewallWorkloadAccess
}

// FirewallControllerStatus is what a firewall-controller reported.
type FirewallControllerStatus struct {
	Version                 string
	NftablesExporterVersion string
	Message                 string
	LastRun                 *metav1.Time
	LastSeedRun             *metav1.Time
	Distance                *int32
}

// FirewallManagementAccess is which management cluster the user data of a firewall name.
type FirewallManagementAccess struct {
	URL               string
	ServiceAccountUID types.UID
}

// FirewallWorkloadAccess is how a firewall-controller reaches the workload cluster.
type FirewallWorkloadAccess struct {
	KubeconfigSecretName string
	TokenSecretName      string
	APIServerURL         string
}
