// SPDX-License-Identifier: Apache-2.0

// Package fuzzer fills objects of the API with random content, for tests.
package fuzzer

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/randfill"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// Funcs keep random objects to what decoding leaves as it is: fields that have
// a default are not empty.
func Funcs(serializer.CodecFactory) []any {
	return []any{
		func(cluster *infrastructure.MetalStackCluster, c randfill.Continue) {
			c.FillNoCustom(cluster)
			if cluster.Spec.ControlPlaneEndpoint.Port == 0 {
				cluster.Spec.ControlPlaneEndpoint.Port = 6443
			}
		},
		func(rule *infrastructure.FirewallEgressRule, c randfill.Continue) {
			c.FillNoCustom(rule)
			rule.Protocol = anyOf(c, "tcp", "udp")
		},
		func(rule *infrastructure.FirewallIngressRule, c randfill.Continue) {
			c.FillNoCustom(rule)
			rule.Protocol = anyOf(c, "tcp", "udp")
		},
		func(remediation *infrastructure.MetalStackRemediation, c randfill.Continue) {
			c.FillNoCustom(remediation)
			strategy := &remediation.Spec.Strategy
			if strategy.Type == "" {
				strategy.Type = infrastructure.RemediationReboot
			}
			if strategy.RetryLimit == 0 {
				strategy.RetryLimit = 1
			}
			if strategy.Timeout == nil {
				strategy.Timeout = &metav1.Duration{Duration: time.Minute}
			}
		},
	}
}

func anyOf(c randfill.Continue, values ...string) string {
	return values[c.Intn(len(values))]
}
