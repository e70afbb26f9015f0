// SPDX-License-Identifier: Apache-2.0

package metaltest

import (
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// NoSuchID is an id that no machine and no project has.
const NoSuchID = "00000000-0000-4000-8000-00000000ffff"

// MachineRequest requests a machine of the usual kind.
func MachineRequest(network string) metal.MachineRequest {
	return metal.MachineRequest{
		Project: simulator.ProjectA, Partition: simulator.DefaultPartition, Size: simulator.SmallSize,
		Image: simulator.MachineImage, Name: "node-1", Hostname: "node-1", Networks: []string{network},
		Tags: []string{metal.Tag(metal.TagUID, "uid-1")}, UserData: []byte("#cloud-config\npassword: hunter22\n"),
	}
}
