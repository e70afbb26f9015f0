package machine

import (
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

func columns() []registry.Column[*object] {
	return registry.ServerColumns(func(m *object) registry.Server {
		return registry.Server{
			Meta: &m.ObjectMeta, ProviderID: m.Spec.ProviderID, Image: m.Spec.Image, Size: m.Spec.MachineType,
			Partition: m.Spec.Partition, Status: &m.Status,
			Addresses: []infrastructure.MachineAddressType{infrastructure.MachineInternalIP, infrastructure.MachineExternalIP},
		}
	})
}
