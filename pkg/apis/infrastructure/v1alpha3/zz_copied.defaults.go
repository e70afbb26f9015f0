// Code generated from ../v1alpha4/defaults.go by hack/update-codegen.sh. DO NOT EDIT.

// SPDX-License-Identifier: Apache-2.0

package v1alpha3

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Defaults. Templates are not defaulted: the defaults are set in the objects that
// are created from them, so that a template reads back as it was written.
const (
	// DefaultControlPlanePort is the port of a control plane endpoint.
	DefaultControlPlanePort int32 = 6443
	// DefaultFirewallProtocol is the protocol of a firewall rule; the metal-api
	// takes a rule without one the same way.
	DefaultFirewallProtocol = "tcp"
	// DefaultRemediationRetryLimit is how many attempts a remediation makes.
	DefaultRemediationRetryLimit int32 = 1
	// DefaultRemediationTimeout is how long one step of an attempt may take.
	DefaultRemediationTimeout = 15 * time.Minute
)

func addDefaultingFuncs(scheme *runtime.Scheme) error {
	return RegisterDefaults(scheme)
}

// SetDefaults_MetalStackCluster sets the control plane's port and the protocols of
// the firewall's rules. An endpoint that the control plane's provider is yet to bring
// stays empty: Cluster API takes a port for an endpoint.
func SetDefaults_MetalStackCluster(cluster *MetalStackCluster) {
	spec := &cluster.Spec
	awaited := spec.ControlPlaneEndpointProvider == EndpointOfControlPlane && spec.ControlPlaneEndpoint.Host == ""
	if spec.ControlPlaneEndpoint.Port == 0 && !awaited {
		spec.ControlPlaneEndpoint.Port = DefaultControlPlanePort
	}
	if firewall := cluster.Spec.FirewallSpec; firewall != nil {
		setDefaultsFirewallRules(firewall.Rules)
	}
}

// SetDefaults_MetalStackFirewall sets the protocols of its rules.
func SetDefaults_MetalStackFirewall(firewall *MetalStackFirewall) {
	setDefaultsFirewallRules(firewall.Spec.Rules)
}

// SetDefaults_MetalStackRemediation sets the strategy.
func SetDefaults_MetalStackRemediation(remediation *MetalStackRemediation) {
	strategy := &remediation.Spec.Strategy
	if strategy.Type == "" {
		strategy.Type = RemediationReboot
	}
	if strategy.RetryLimit == 0 {
		strategy.RetryLimit = DefaultRemediationRetryLimit
	}
	if strategy.Timeout == nil {
		strategy.Timeout = &metav1.Duration{Duration: DefaultRemediationTimeout}
	}
}

func setDefaultsFirewallRules(rules *FirewallRules) {
	if rules == nil {
		return
	}
	for i := range rules.Egress {
		if rules.Egress[i].Protocol == "" {
			rules.Egress[i].Protocol = DefaultFirewallProtocol
		}
	}
	for i := range rules.Ingress {
		if rules.Ingress[i].Protocol == "" {
			rules.Ingress[i].Protocol = DefaultFirewallProtocol
		}
	}
}
