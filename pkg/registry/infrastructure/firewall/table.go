// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"k8s.io/apimachinery/pkg/api/meta"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

func columns() []registry.Column[*object] {
	common := registry.MachineLikeColumns(func(f *object) registry.MachineLike {
		return registry.MachineLike{
			Meta: &f.ObjectMeta, ProviderID: f.Spec.ProviderID, Image: f.Spec.Image, Size: f.Spec.MachineType,
			Partition: f.Spec.Partition, Status: f.Status.MachineLike(),
			Addresses: []infrastructure.MachineAddressType{infrastructure.MachineExternalIP, infrastructure.MachineInternalIP},
		}
	})
	return append(common,
		registry.Column[*object]{
			Name: "Distance", Type: "integer", Description: "By how much the firewall lengthens the AS path of its routes.", Wide: true,
			Cell: func(f *object) any { return int64(f.Status.Distance) },
		},
		registry.Column[*object]{Name: "Controller", Description: "Version of the firewall-controller that runs, as it reported.", Wide: true, Cell: controllerCell},
		registry.Column[*object]{Name: "Connected", Description: "Whether the firewall-controller reports.", Wide: true, Cell: connectedCell},
	)
}

func controllerCell(f *object) any {
	version := ""
	if f.Status.Controller != nil {
		version = f.Status.Controller.Version
	}
	return registry.OrNone(version)
}

func connectedCell(f *object) any {
	status := ""
	if c := meta.FindStatusCondition(f.Status.Conditions, infrastructure.ConditionControllerConnected); c != nil {
		status = string(c.Status)
	}
	return registry.OrNone(status)
}
