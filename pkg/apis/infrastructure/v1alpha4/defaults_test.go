// SPDX-License-Identifier: Apache-2.0

package v1alpha4

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
)

func defaulted[T runtime.Object](t *testing.T, object T) T {
	t.Helper()
	scheme := runtime.NewScheme()
	require.NoError(t, AddToScheme(scheme))
	scheme.Default(object)
	return object
}

func TestDefaults_EndpointPortIs6443(t *testing.T) {
	t.Parallel()

	assert.EqualValues(t, 6443, defaulted(t, &MetalStackCluster{}).Spec.ControlPlaneEndpoint.Port)
	list := defaulted(t, &MetalStackClusterList{Items: []MetalStackCluster{{}}})
	assert.EqualValues(t, 6443, list.Items[0].Spec.ControlPlaneEndpoint.Port)

	own := &MetalStackCluster{Spec: MetalStackClusterSpec{ControlPlaneEndpoint: APIEndpoint{Port: 443}}}
	assert.EqualValues(t, 443, defaulted(t, own).Spec.ControlPlaneEndpoint.Port)
}

func TestDefaults_EndpointOfControlPlaneIsEmptyUntilItHasAHost(t *testing.T) {
	t.Parallel()

	hosted := &MetalStackCluster{Spec: MetalStackClusterSpec{ControlPlaneEndpointProvider: EndpointOfControlPlane}}
	assert.Zero(t, defaulted(t, hosted).Spec.ControlPlaneEndpoint)
	hosted.Spec.ControlPlaneEndpoint.Host = "203.0.113.7"
	assert.EqualValues(t, 6443, defaulted(t, hosted).Spec.ControlPlaneEndpoint.Port)
}

func TestDefaults_RuleProtocolIsTCP(t *testing.T) {
	t.Parallel()

	rules := func() *FirewallRules {
		return &FirewallRules{Egress: []FirewallEgressRule{{}, {Protocol: "udp"}}, Ingress: []FirewallIngressRule{{}, {Protocol: "udp"}}}
	}
	want := &FirewallRules{
		Egress:  []FirewallEgressRule{{Protocol: "tcp"}, {Protocol: "udp"}},
		Ingress: []FirewallIngressRule{{Protocol: "tcp"}, {Protocol: "udp"}},
	}
	assert.Equal(t, want, defaulted(t, &MetalStackFirewall{Spec: MetalStackFirewallSpec{Rules: rules()}}).Spec.Rules)
	cluster := &MetalStackCluster{Spec: MetalStackClusterSpec{FirewallSpec: &MetalStackFirewallSpec{Rules: rules()}}}
	assert.Equal(t, want, defaulted(t, cluster).Spec.FirewallSpec.Rules)
}

func TestDefaults_TemplatesAreNotDefaulted(t *testing.T) {
	t.Parallel()

	template := func() *MetalStackClusterTemplate {
		return &MetalStackClusterTemplate{Spec: MetalStackClusterTemplateSpec{Template: MetalStackClusterTemplateResource{
			Spec: MetalStackClusterSpec{FirewallSpec: &MetalStackFirewallSpec{Rules: &FirewallRules{Egress: []FirewallEgressRule{{}}}}},
		}}}
	}
	assert.Equal(t, template(), defaulted(t, template()))
	assert.Equal(t, &MetalStackMachineTemplate{}, defaulted(t, &MetalStackMachineTemplate{}))
}

func TestDefaults_RemediationHasAStrategy(t *testing.T) {
	t.Parallel()

	strategy := defaulted(t, &MetalStackRemediation{}).Spec.Strategy
	assert.Equal(t, RemediationReboot, strategy.Type)
	assert.EqualValues(t, 1, strategy.RetryLimit)
	assert.Equal(t, 15*time.Minute, strategy.Timeout.Duration)
	own := &MetalStackRemediation{Spec: MetalStackRemediationSpec{Strategy: RemediationStrategy{RetryLimit: 3}}}
	assert.EqualValues(t, 3, defaulted(t, own).Spec.Strategy.RetryLimit)
	assert.Zero(t, defaulted(t, &MetalStackRemediationTemplate{}).Spec)
}
