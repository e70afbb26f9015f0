// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"strconv"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// managedField distinguishes records from discovered metal.
const managedField = "status.metal.managed"

// ManagedSelector selects the objects that have a record: discovered metal
// cannot be deleted.
var ManagedSelector = fields.OneTermEqualSelector(managedField, "true")

// ManagedClaimSelector is ManagedSelector for networks and addresses.
var ManagedClaimSelector = fields.OneTermEqualSelector("status.managed", "true")

// MachineLikeFields are the selectable fields of an object that stands for a machine.
func MachineLikeFields(providerID string, m *infrastructure.Metal) fields.Set {
	set := fields.Set{
		"spec.providerID":    providerID,
		"status.metal.phase": "",
		// An object has a record unless its metal says otherwise.
		managedField: "true",
	}
	if m != nil {
		set["status.metal.phase"] = m.Phase
		set[managedField] = strconv.FormatBool(m.Managed)
	}
	return set
}

// MachineLike is what a table shows of an object that stands for a machine.
type MachineLike struct {
	Meta *metav1.ObjectMeta
	// What the spec says, which is shown while the metal does not say better.
	ProviderID, Image, Size, Partition string
	Status                             infrastructure.MachineLikeStatus
	// Addresses are the types of address to show one of, best first.
	Addresses []infrastructure.MachineAddressType
}

// MachineLikeColumns are the columns of an object that stands for a machine.
func MachineLikeColumns[T Object](machineLike func(T) MachineLike) []Column[T] {
	cell := func(show func(s MachineLike, m infrastructure.Metal) string) func(T) any {
		return func(obj T) any {
			s := machineLike(obj)
			var m infrastructure.Metal
			if live := *s.Status.Metal; live != nil {
				m = *live
			}
			return OrNone(show(s, m))
		}
	}
	return []Column[T]{
		{Name: "Cluster", Description: "Name of the Cluster API Cluster.", Cell: cell(func(s MachineLike, _ infrastructure.Metal) string {
			return s.Meta.Labels[infrastructure.ClusterNameLabel]
		})},
		{Name: "Ready", Description: "Whether the machine has phoned home and is alive.", Cell: cell(func(s MachineLike, _ infrastructure.Metal) string {
			return ReadyCell(*s.Status.Ready, *s.Status.Conditions)
		})},
		{Name: "Phase", Description: "Last provisioning event of the machine.", Cell: cell(func(_ MachineLike, m infrastructure.Metal) string {
			return m.Phase
		})},
		{Name: "Liveliness", Description: "Liveliness of the machine, as the metal-api reports it.", Cell: cell(func(_ MachineLike, m infrastructure.Metal) string {
			return m.Liveliness
		})},
		{Name: "Size", Description: "metal-stack size of the machine.", Cell: cell(func(s MachineLike, m infrastructure.Metal) string {
			return cmp.Or(m.Size, s.Size)
		})},
		{Name: "Address", Description: "Address of the machine.", Cell: cell(func(s MachineLike, _ infrastructure.Metal) string {
			return s.address()
		})},
		Age[T](),
		{Name: "ProviderID", Description: "Provider ID, which the Node has, too.", Wide: true, Cell: cell(func(s MachineLike, _ infrastructure.Metal) string {
			return s.ProviderID
		})},
		{Name: "Image", Description: "Image of the machine.", Wide: true, Cell: cell(func(s MachineLike, m infrastructure.Metal) string {
			return cmp.Or(m.Image, s.Image)
		})},
		{Name: "Partition", Description: "Partition of the machine.", Wide: true, Cell: cell(func(s MachineLike, m infrastructure.Metal) string {
			return cmp.Or(m.Partition, s.Partition)
		})},
		{Name: "Rack", Description: "Rack of the machine.", Wide: true, Cell: cell(func(_ MachineLike, m infrastructure.Metal) string {
			return m.Rack
		})},
		{Name: "Issues", Description: "Issue of the machine that an operator of metal-stack looks after.", Wide: true, Cell: cell(func(s MachineLike, _ infrastructure.Metal) string {
			if c := meta.FindStatusCondition(*s.Status.Conditions, infrastructure.ConditionMetalIssues); c != nil {
				return c.Reason
			}
			return ""
		})},
		{Name: "Managed", Type: "boolean", Description: "Whether a record manages the machine; false for discovered machines.", Wide: true, Cell: func(obj T) any {
			m := *machineLike(obj).Status.Metal
			return m == nil || m.Managed
		}},
	}
}

func (m MachineLike) address() string {
	for _, t := range m.Addresses {
		for _, a := range *m.Status.Addresses {
			if a.Type == t {
				return a.Address
			}
		}
	}
	return ""
}
