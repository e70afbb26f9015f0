// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
)

// firewallsReader returns an object with a firewall-controller that reads Firewalls from this
// server; empty if there is none.
func (s *Server) firewallsReader(ctx context.Context) (string, error) {
	clusters, err := s.resources.Clusters().List(ctx)
	if err != nil {
		return "", err
	}
	firewalls, err := s.resources.Firewalls().List(ctx)
	if err != nil {
		return "", err
	}
	return firewallsReaderAmong(clusters, firewalls), nil
}

// firewallsReaderAmong does not count a firewall whose spec.controller was removed: its
// firewall-controller loses its access, and as long as it has it, its cluster has the condition.
func firewallsReaderAmong(clusters []*infrastructure.MetalStackCluster, firewalls []*infrastructure.MetalStackFirewall) string {
	for _, c := range clusters {
		if meta.FindStatusCondition(c.Status.Conditions, infrastructure.ConditionFirewallControllerReady) != nil {
			return "MetalStackCluster " + c.Namespace + "/" + c.Name
		}
	}
	for _, f := range firewalls {
		if f.Spec.Controller != nil && (projection.FirewallName(f) != "" || projection.IsFirewallUnknown(f)) {
			return "MetalStackFirewall " + f.Namespace + "/" + f.Name
		}
	}
	return ""
}
