// Code generated from ../v1alpha4/accessors.go by hack/update-codegen.sh. DO NOT EDIT.

// SPDX-License-Identifier: Apache-2.0

package v1alpha3

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// GetConditions returns the conditions, for Cluster API's utilities.
func (c *MetalStackCluster) GetConditions() []metav1.Condition { return c.Status.Conditions }

// SetConditions replaces the conditions.
func (c *MetalStackCluster) SetConditions(conditions []metav1.Condition) {
	c.Status.Conditions = conditions
}

// GetConditions returns the conditions, for Cluster API's utilities.
func (m *MetalStackMachine) GetConditions() []metav1.Condition { return m.Status.Conditions }

// SetConditions replaces the conditions.
func (m *MetalStackMachine) SetConditions(conditions []metav1.Condition) {
	m.Status.Conditions = conditions
}

// GetConditions returns the conditions, for Cluster API's utilities.
func (r *MetalStackRemediation) GetConditions() []metav1.Condition { return r.Status.Conditions }

// SetConditions replaces the conditions.
func (r *MetalStackRemediation) SetConditions(conditions []metav1.Condition) {
	r.Status.Conditions = conditions
}

// GetConditions returns the conditions, for Cluster API's utilities.
func (f *MetalStackFirewall) GetConditions() []metav1.Condition { return f.Status.Conditions }

// SetConditions replaces the conditions.
func (f *MetalStackFirewall) SetConditions(conditions []metav1.Condition) {
	f.Status.Conditions = conditions
}

// GetConditions returns the conditions, for Cluster API's utilities.
func (n *MetalStackNetwork) GetConditions() []metav1.Condition { return n.Status.Conditions }

// SetConditions replaces the conditions.
func (n *MetalStackNetwork) SetConditions(conditions []metav1.Condition) {
	n.Status.Conditions = conditions
}

// GetConditions returns the conditions, for Cluster API's utilities.
func (i *MetalStackIP) GetConditions() []metav1.Condition { return i.Status.Conditions }

// SetConditions replaces the conditions.
func (i *MetalStackIP) SetConditions(conditions []metav1.Condition) {
	i.Status.Conditions = conditions
}
