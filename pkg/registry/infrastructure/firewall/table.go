// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

func columns() []registry.Column[*object] {
	return registry.MachineLikeColumns(func(f *object) registry.MachineLike {
		return registry.MachineLike{
			Meta: &f.ObjectMeta, ProviderID: f.Spec.ProviderID, Image: f.Spec.Image, Size: f.Spec.MachineType,
			Partition: f.Spec.Partition, Status: f.Status.MachineLike(),
			Addresses: []infrastructure.MachineAddressType{infrastructure.MachineExternalIP, infrastructure.MachineInternalIP},
		}
	})
}
