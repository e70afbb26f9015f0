// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"regexp"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// MachineTemplateProjector combines machine templates with the size that they name, which
// tells an autoscaler what a node would offer before there is one.
type MachineTemplateProjector struct{ sizes Sizes }

// Static implements storage.Static.
func (*MachineTemplateProjector) Static() {}

// Refs implements storage.Projector.
func (*MachineTemplateProjector) Refs(runtime.Object) []metal.Ref { return nil }

// Discovered implements storage.Projector.
func (*MachineTemplateProjector) Discovered(metal.Ref) (runtime.Object, []metal.Ref) { return nil, nil }

// Strip implements storage.Projector.
func (*MachineTemplateProjector) Strip(obj runtime.Object) {
	if t, ok := obj.(*infrastructure.MetalStackMachineTemplate); ok {
		t.Status = infrastructure.MetalStackMachineTemplateStatus{}
	}
}

// Project implements storage.Projector.
func (p *MachineTemplateProjector) Project(record, previous runtime.Object) runtime.Object {
	obj := record.DeepCopyObject()
	t, ok := obj.(*infrastructure.MetalStackMachineTemplate)
	if !ok {
		return obj
	}
	p.Strip(t)
	var size *metal.Size
	if p.sizes != nil {
		size = p.sizes.Size(t.Spec.Template.Spec.MachineType)
	}
	shown, _ := previous.(*infrastructure.MetalStackMachineTemplate)
	switch {
	case size != nil:
		t.Status = templateStatus(size)
	case shown != nil && shown.Spec.Template.Spec.MachineType == t.Spec.Template.Spec.MachineType:
		// Not knowing it now proves nothing.
		shown.Status.DeepCopyInto(&t.Status)
	}
	return t
}

// templateStatus is what a node on a machine of a size has at least: machines of one
// size may differ, and a promise that is not kept would make an autoscaler
// scale up for nothing. All of metal-stack's machines are amd64.
func templateStatus(size *metal.Size) infrastructure.MetalStackMachineTemplateStatus {
	capacity := corev1.ResourceList{}
	for _, c := range size.Constraints {
		switch {
		case c.Min <= 0:
		case c.Type == metal.ConstraintCores:
			capacity[corev1.ResourceCPU] = *resource.NewQuantity(c.Min, resource.DecimalSI)
		case c.Type == metal.ConstraintMemory:
			capacity[corev1.ResourceMemory] = *resource.NewQuantity(c.Min, resource.BinarySI)
		case c.Type == metal.ConstraintGPU:
			if name := gpuResource(c.Identifier); name != "" {
				total := capacity[name]
				total.Add(*resource.NewQuantity(c.Min, resource.DecimalSI))
				capacity[name] = total
			}
		}
	}
	if len(capacity) == 0 {
		return infrastructure.MetalStackMachineTemplateStatus{}
	}
	return infrastructure.MetalStackMachineTemplateStatus{
		Capacity: capacity,
		NodeInfo: &infrastructure.NodeInfo{Architecture: "amd64", OperatingSystem: "linux"},
	}
}

// GPUs are identified by a pattern of their model, as the PCI database names it: the code
// name of the chip, such as `AD102GL*`, or the product's.
var gpuModels = []struct {
	resource corev1.ResourceName
	model    *regexp.Regexp
}{
	{"nvidia.com/gpu", regexp.MustCompile(`(?i)nvidia|tesla|geforce|quadro|\brtx\b|^(G[A-Z]|TU|AD)[0-9]{3}`)},
	{"amd.com/gpu", regexp.MustCompile(`(?i)\bamd\b|radeon|instinct|^(navi|vega|arcturus|aldebaran|aqua vanjaram|mi[0-9]{2,3})`)},
}

// gpuResource is the extended resource under which the device plugin of the vendor shows
// a GPU on a Node; empty if the vendor is not known.
func gpuResource(identifier string) corev1.ResourceName {
	for _, vendor := range gpuModels {
		if vendor.model.MatchString(identifier) {
			return vendor.resource
		}
	}
	return ""
}
