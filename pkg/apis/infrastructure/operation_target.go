// SPDX-License-Identifier: Apache-2.0

package infrastructure

import (
	"k8s.io/apimachinery/pkg/types"
)

// +k8s:deepcopy-gen=false

// OperationTarget is the machine or firewall that an operation is for, and who asks for it.
type OperationTarget struct {
	// Kind is MetalStackMachine or MetalStackFirewall.
	Kind            string
	Namespace, Name string
	// UID is the object's, as the user is shown it; empty for whichever object has the name.
	UID types.UID
	// User is the name of the user who asks.
	User string
	// Discovered is the metal of a discovered object, which has no record; nil for others.
	Discovered *Metal
}
