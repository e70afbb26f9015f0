// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

func columns() []registry.Column[*object] {
	return registry.MachineLikeColumns(func(m *object) registry.MachineLike {
		return registry.MachineLike{
			Meta: &m.ObjectMeta, ProviderID: m.Spec.ProviderID, Image: m.Spec.Image, Size: m.Spec.MachineType,
			Partition: m.Spec.Partition, Status: m.Status.MachineLike(),
			Addresses: []infrastructure.MachineAddressType{infrastructure.MachineInternalIP, infrastructure.MachineExternalIP},
		}
	})
}
