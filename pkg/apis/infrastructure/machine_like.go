// SPDX-License-Identifier: Apache-2.0

package infrastructure

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// +k8s:deepcopy-gen=false

// MachineLikeStatus points to what the statuses of machines and firewalls have in common.
type MachineLikeStatus struct {
	Ready          *bool
	Initialization *Initialization
	Addresses      *[]MachineAddress
	FailureDomain  *string
	Conditions     *[]metav1.Condition
	Metal          **Metal
	Allocation     **MachineAllocation
	LastOperation  **MachineOperation
}

// MachineLike returns what the status has in common with that of a firewall.
func (s *MetalStackMachineStatus) MachineLike() MachineLikeStatus {
	return MachineLikeStatus{&s.Ready, &s.Initialization, &s.Addresses, &s.FailureDomain, &s.Conditions, &s.Metal, &s.Allocation, &s.LastOperation}
}

// MachineLike returns what the status has in common with that of a machine.
func (s *MetalStackFirewallStatus) MachineLike() MachineLikeStatus {
	return MachineLikeStatus{&s.Ready, &s.Initialization, &s.Addresses, &s.FailureDomain, &s.Conditions, &s.Metal, &s.Allocation, &s.LastOperation}
}
