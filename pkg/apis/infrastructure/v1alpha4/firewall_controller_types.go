// SPDX-License-Identifier: Apache-2.0

package v1alpha4

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// FirewallController is the configuration of a firewall-controller.
// +structType=granular
type FirewallController struct {
	// interval is how often the firewall-controller computes its rules, from 1s to 1h:
	// `10s`, which is the default.
	// +optional
	Interval *metav1.Duration `json:"interval,omitempty"`

	// version is the version of the firewall-controller, to which it updates itself, such as
	// `v2.4.1`. If it is omitted, the version of the image runs. It is set together with
	// url.
	// +optional
	// +k8s:validation:maxLength=128
	Version string `json:"version,omitempty"`
	// url is where that version is downloaded from, by https. It is set together with
	// version.
	// +optional
	// +k8s:validation:maxLength=2048
	URL string `json:"url,omitempty"`

	// rateLimits limit what the firewall receives from networks. There are at most 13,
	// one for each network. Those of networks that a firewall has not joined have no effect
	// on it.
	// +optional
	// +listType=map
	// +listMapKey=networkID
	// +k8s:validation:maxItems=13
	RateLimits []FirewallRateLimit `json:"rateLimits,omitempty"`

	// egressIPs are the source addresses of connections into networks, instead of the
	// firewall's own. There are at most 13, one for each network. Those of networks that a
	// firewall has not joined have no effect on it.
	// +optional
	// +listType=map
	// +listMapKey=networkID
	// +k8s:validation:maxItems=13
	EgressIPs []FirewallEgressIPs `json:"egressIPs,omitempty"`

	// internalPrefixes are prefixes whose traffic is counted as internal:
	// `["10.0.0.0/8"]`. There are at most 100.
	// +optional
	// +listType=atomic
	// +k8s:validation:maxItems=100
	// +k8s:validation:items:maxLength=64
	InternalPrefixes []string `json:"internalPrefixes,omitempty"`

	// allowedNetworks limit what policies and Services of the workload cluster can open.
	// Without it they can open everything.
	// +optional
	AllowedNetworks FirewallAllowedNetworks `json:"allowedNetworks,omitempty,omitzero"`

	// dnsServer is the IP address of the DNS server that resolves the names in policies. It
	// defaults to the firewall's own.
	// +optional
	// +k8s:validation:maxLength=64
	DNSServer string `json:"dnsServer,omitempty"`

	// logAcceptedConnections logs accepted connections, too, not only dropped ones.
	// +optional
	LogAcceptedConnections bool `json:"logAcceptedConnections,omitempty"`

	// nftablesExporter is the exporter of the rules' metrics. If it is omitted, that of the
	// image runs.
	// +optional
	NftablesExporter FirewallNftablesExporter `json:"nftablesExporter,omitempty,omitzero"`

	// silenceTimeout is for how long a firewall-controller that has reported may report
	// nothing more, while the workload cluster's API server can be reached, before the
	// firewall is replaced: `30m`.
	// It is at least 10m, and 3 times interval and 5m. Without it a firewall is not replaced
	// for that: its last rules hold.
	// +optional
	SilenceTimeout *metav1.Duration `json:"silenceTimeout,omitempty"`
}

// FirewallRateLimit limits what a firewall receives from a network. Both fields are
// required.
// +structType=granular
type FirewallRateLimit struct {
	// networkID is the id of one of the firewall's networks.
	// +required
	// +k8s:validation:maxLength=253
	NetworkID string `json:"networkID"`
	// rate is the limit in MiB/s, from 1.
	// +required
	Rate int64 `json:"rate,omitempty"`
}

// FirewallEgressIPs are the source addresses of connections into a network. Both fields
// are required.
// +structType=granular
type FirewallEgressIPs struct {
	// networkID is the id of one of the firewall's networks.
	// +required
	// +k8s:validation:maxLength=253
	NetworkID string `json:"networkID"`
	// ips are addresses of that network that the project has allocated. Static addresses
	// stay when the firewall is replaced or the cluster is deleted. There are at most 16,
	// counting those of all networks.
	// +required
	// +listType=set
	// +k8s:validation:maxItems=16
	// +k8s:validation:items:maxLength=64
	IPs []string `json:"ips,omitempty"`
}

// FirewallAllowedNetworks limit what policies and Services of a workload cluster can open.
// +structType=granular
type FirewallAllowedNetworks struct {
	// ingress are the prefixes at which Services can be reached. There are at most 100.
	// +optional
	// +listType=atomic
	// +k8s:validation:maxItems=100
	// +k8s:validation:items:maxLength=64
	Ingress []string `json:"ingress,omitempty"`
	// egress are the prefixes to which connections can be allowed. There are at most 100.
	// +optional
	// +listType=atomic
	// +k8s:validation:maxItems=100
	// +k8s:validation:items:maxLength=64
	Egress []string `json:"egress,omitempty"`
}

// FirewallNftablesExporter is the exporter of the metrics of a firewall's rules. Both
// fields are set together.
// +structType=granular
type FirewallNftablesExporter struct {
	// version is the version to which the firewall-controller updates the exporter.
	// +optional
	// +k8s:validation:maxLength=128
	Version string `json:"version,omitempty"`
	// url is where that version is downloaded from, by https.
	// +optional
	// +k8s:validation:maxLength=2048
	URL string `json:"url,omitempty"`
}

// FirewallAutoUpdate is when a firewall is replaced for a newer image.
// +structType=granular
type FirewallAutoUpdate struct {
	// maintenanceWindow is when replacements begin. If it is omitted, they begin at any
	// time.
	// +optional
	MaintenanceWindow *MaintenanceWindow `json:"maintenanceWindow,omitempty"`
}

// MaintenanceWindow is a time of certain days. The begin and the duration are required.
// +structType=granular
type MaintenanceWindow struct {
	// days are the days of the week on which the window begins: `["Sat", "Sun"]`. They
	// default to all.
	// +optional
	// +listType=set
	// +k8s:validation:maxItems=7
	// +k8s:validation:items:maxLength=3
	Days []string `json:"days,omitempty"`
	// begin is the time of day at which it begins: `02:30`.
	// +required
	// +k8s:validation:maxLength=5
	Begin string `json:"begin,omitempty"`
	// duration is how long it lasts, from 15m to 24h: `2h`.
	// +required
	Duration metav1.Duration `json:"duration,omitempty,omitzero"`
	// timeZone is that of days and begin, by its name in the IANA database:
	// `Europe/Berlin`. It defaults to `UTC`.
	// +optional
	// +k8s:validation:maxLength=64
	TimeZone string `json:"timeZone,omitempty"`
}

// FirewallControllerStatus is what a firewall-controller reported, in its FirewallMonitor
// in the workload cluster.
// +structType=atomic
type FirewallControllerStatus struct {
	// version is the version that runs.
	// +optional
	Version string `json:"version,omitempty"`
	// nftablesExporterVersion is the version of the exporter that runs.
	// +optional
	NftablesExporterVersion string `json:"nftablesExporterVersion,omitempty"`
	// message is what it said of its last run.
	// +optional
	Message string `json:"message,omitempty"`
	// lastRun is when it last read the workload cluster. Newer times are written here
	// every five minutes at most.
	// +optional
	LastRun *metav1.Time `json:"lastRun,omitempty"`
	// lastSeedRun is when it last read its configuration from the management cluster.
	// +optional
	LastSeedRun *metav1.Time `json:"lastSeedRun,omitempty"`
	// distance is the distance that it has configured. It is missing if the version that
	// runs knows of none.
	// +optional
	Distance *int32 `json:"distance,omitempty"`
}

// FirewallManagementAccess is which management cluster a firewall knows.
// +structType=atomic
type FirewallManagementAccess struct {
	// url is that of its API server.
	// +optional
	URL string `json:"url,omitempty"`
	// serviceAccountUID is the uid of the ServiceAccount whose token the firewall has.
	// +optional
	ServiceAccountUID types.UID `json:"serviceAccountUID,omitempty"`
}

// FirewallWorkloadAccess is how a firewall-controller reaches the workload cluster.
// +structType=atomic
type FirewallWorkloadAccess struct {
	// kubeconfigSecretName is the Secret of the namespace with a kubeconfig without
	// credentials.
	// +optional
	KubeconfigSecretName string `json:"kubeconfigSecretName,omitempty"`
	// tokenSecretName is the Secret of the namespace with the token.
	// +optional
	TokenSecretName string `json:"tokenSecretName,omitempty"`
	// apiServerURL is that of the workload cluster's API server.
	// +optional
	APIServerURL string `json:"apiServerURL,omitempty"`
}
