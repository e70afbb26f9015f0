// SPDX-License-Identifier: Apache-2.0

package firewallcontroller

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// What is read and written, and where.
var (
	Firewalls = schema.GroupVersionResource{Group: "firewall.metal-stack.io", Version: "v2", Resource: "firewalls"}
	Monitors  = schema.GroupVersionResource{Group: "firewall.metal-stack.io", Version: "v2", Resource: "firewallmonitors"}
	Policies  = schema.GroupVersionResource{Group: "metal-stack.io", Version: "v1", Resource: "clusterwidenetworkpolicies"}
)

// WorkloadNamespace is the namespace of the workload cluster in which policies have an
// effect, and monitors are.
const WorkloadNamespace = "firewall"

// Types of networks, as the metal-api has them.
const (
	external               = "external"
	underlay               = "underlay"
	privatePrimaryUnshared = "privateprimaryunshared"
	privatePrimaryShared   = "privateprimaryshared"
)

// Firewall is firewall.metal-stack.io/v2 with the names of all fields that
// firewall-controller-manager gives it.
type Firewall struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec     FirewallSpec   `json:"spec"`
	Status   FirewallStatus `json:"status,omitempty"`
	Distance uint8          `json:"distance"`
}

// FirewallSpec is the configuration.
type FirewallSpec struct {
	Size      string   `json:"size"`
	Image     string   `json:"image"`
	Partition string   `json:"partition"`
	Project   string   `json:"project"`
	Networks  []string `json:"networks"`

	Userdata                string          `json:"userdata,omitempty"`
	SSHPublicKeys           []string        `json:"sshPublicKeys,omitempty"`
	RateLimits              []RateLimit     `json:"rateLimits,omitempty"`
	InternalPrefixes        []string        `json:"internalPrefixes,omitempty"`
	EgressRules             []EgressRule    `json:"egressRules,omitempty"`
	Interval                string          `json:"interval,omitempty"`
	DryRun                  bool            `json:"dryRun,omitempty"`
	Ipv4RuleFile            string          `json:"ipv4RuleFile,omitempty"`
	ControllerVersion       string          `json:"controllerVersion,omitempty"`
	ControllerURL           string          `json:"controllerURL,omitempty"`
	NftablesExporterVersion string          `json:"nftablesExporterVersion,omitempty"`
	NftablesExporterURL     string          `json:"nftablesExporterURL,omitempty"`
	LogAcceptedConnections  bool            `json:"logAcceptedConnections,omitempty"`
	DNSServerAddress        string          `json:"dnsServerAddress,omitempty"`
	DNSPort                 *uint           `json:"dnsPort,omitempty"`
	AllowedNetworks         AllowedNetworks `json:"allowedNetworks,omitempty"`
}

// RateLimit is in MiB/s.
type RateLimit struct {
	NetworkID string `json:"networkID"`
	Rate      uint32 `json:"rate"`
}

// EgressRule has the source addresses of connections into a network.
type EgressRule struct {
	NetworkID string   `json:"networkID"`
	IPs       []string `json:"ips"`
}

// AllowedNetworks are prefixes.
type AllowedNetworks struct {
	Ingress []string `json:"ingress,omitempty"`
	Egress  []string `json:"egress,omitempty"`
}

// FirewallStatus is what is known of the machine.
type FirewallStatus struct {
	MachineStatus    *MachineStatus  `json:"machineStatus,omitempty"`
	ControllerStatus json.RawMessage `json:"controllerStatus,omitempty"`
	Networks         []Network       `json:"firewallNetworks,omitempty"`
	Conditions       json.RawMessage `json:"conditions,omitempty"`
	Phase            string          `json:"phase,omitempty"`
	ShootAccess      *ShootAccess    `json:"shootAccess,omitempty"`
}

// MachineStatus is the machine.
type MachineStatus struct {
	MachineID           string      `json:"machineID"`
	AllocationTimestamp metav1.Time `json:"allocationTimestamp"`
	Liveliness          string      `json:"liveliness"`
	CrashLoop           bool        `json:"crashLoop,omitempty"`
	LastEvent           *Event      `json:"lastEvent,omitempty"`
	ImageID             string      `json:"imageID,omitempty"`
}

// Event is a provisioning event.
type Event struct {
	Event     string      `json:"event"`
	Timestamp metav1.Time `json:"timestamp"`
	Message   string      `json:"message"`
}

// Network is one that the firewall is in.
type Network struct {
	ASN                 *int64   `json:"asn"`
	DestinationPrefixes []string `json:"destinationPrefixes,omitempty"`
	IPs                 []string `json:"ips,omitempty"`
	Nat                 *bool    `json:"nat"`
	NetworkID           *string  `json:"networkID"`
	NetworkType         *string  `json:"networkType"`
	Prefixes            []string `json:"prefixes,omitempty"`
	Vrf                 *int64   `json:"vrf"`
}

// ShootAccess says how the workload cluster is reached.
type ShootAccess struct {
	KubeconfigSecret string `json:"genericKubeconfigSecretName"`
	TokenSecret      string `json:"tokenSecretName"`
	Namespace        string `json:"namespace"`
	APIServerURL     string `json:"apiServerURL"`
	// SSHKeySecretName is one that earlier versions have.
	SSHKeySecretName string `json:"sshKeySecretName,omitempty"`
}

// Policy is a ClusterwideNetworkPolicy.
type Policy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   PolicySpec   `json:"spec,omitempty"`
	Status PolicyStatus `json:"status,omitempty"`
}

// PolicySpec is what a policy allows.
type PolicySpec struct {
	Description string        `json:"description,omitempty"`
	Ingress     []IngressRule `json:"ingress,omitempty"`
	Egress      []PolicyRule  `json:"egress,omitempty"`
}

// IngressRule allows connections from prefixes.
type IngressRule struct {
	Ports []Port    `json:"ports,omitempty"`
	From  []IPBlock `json:"from,omitempty"`
}

// PolicyRule allows connections to prefixes, or to names.
type PolicyRule struct {
	Ports   []Port    `json:"ports,omitempty"`
	To      []IPBlock `json:"to,omitempty"`
	ToFQDNs []FQDN    `json:"toFQDNs,omitempty"`
}

// Port is a port, or a range.
type Port struct {
	Protocol *corev1.Protocol `json:"protocol,omitempty"`
	Port     int32            `json:"port,omitempty"`
	EndPort  *int32           `json:"endPort,omitempty"`
}

// IPBlock is a prefix without others.
type IPBlock struct {
	CIDR   string   `json:"cidr"`
	Except []string `json:"except,omitempty"`
}

// FQDN is a name, or a pattern.
type FQDN struct {
	MatchName    string `json:"matchName,omitempty"`
	MatchPattern string `json:"matchPattern,omitempty"`
}

// PolicyStatus says whether there are rules of a policy.
type PolicyStatus struct {
	FQDNState json.RawMessage `json:"fqdn_state,omitempty"`
	State     string          `json:"state,omitempty"`
	Message   string          `json:"message,omitempty"`
}

// controllerStatus is what is reported in a FirewallMonitor. A time that is not known is
// null, as metav1.Time is.
type controllerStatus struct {
	Message           string      `json:"message,omitempty"`
	Stats             stats       `json:"stats"`
	ControllerVersion string      `json:"controllerVersion,omitempty"`
	LastRun           metav1.Time `json:"lastRun"`
	LastSeedRun       metav1.Time `json:"lastRunAgainstSeed"`
	Distance          uint8       `json:"distance,omitempty"`
	DistanceSupported bool        `json:"distanceSupported,omitempty"`
}

type stats struct {
	Rules   map[string]map[string]rule `json:"rules"`
	Devices map[string]device          `json:"devices"`
	IDS     map[string]ids             `json:"idsStats"`
}

type rule struct {
	Counter struct {
		Bytes   uint64 `json:"bytes"`
		Packets uint64 `json:"packets"`
	} `json:"counter"`
}

type device struct {
	In  uint64 `json:"in"`
	Out uint64 `json:"out"`
}

type ids struct {
	Drop             int `json:"drop"`
	InvalidChecksums int `json:"invalidChecksums"`
	Packets          int `json:"packets"`
}

// decode reads an object. Fields that firewall-controller does not know are an error: it
// would not see what they say.
func decode[T any](u *unstructured.Unstructured) (*T, error) {
	text, err := u.MarshalJSON()
	if err != nil {
		return nil, err
	}
	into := new(T)
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return nil, fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s %s: more than an object", u.GetKind(), u.GetName())
	}
	return into, nil
}

// network returns the network with an id.
func (f *Firewall) network(id string) (Network, bool) {
	for _, n := range f.Status.Networks {
		if n.NetworkType != nil && n.NetworkID != nil && *n.NetworkID == id {
			return n, true
		}
	}
	return Network{}, false
}

// privateNetwork returns the private network of the cluster; nil if there is none.
func (f *Firewall) privateNetwork() *Network {
	for i := range f.Status.Networks {
		n := &f.Status.Networks[i]
		if n.NetworkType != nil && (*n.NetworkType == privatePrimaryShared || *n.NetworkType == privatePrimaryUnshared) {
			return n
		}
	}
	return nil
}
