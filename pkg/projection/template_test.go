// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

type sizes map[string]*metal.Size

func (s sizes) Size(id string) *metal.Size { return s[id] }

func template(size string) *infrastructure.MetalStackMachineTemplate {
	t := &infrastructure.MetalStackMachineTemplate{ObjectMeta: metav1.ObjectMeta{Namespace: namespaceA, Name: "t"}}
	t.Spec.Template.Spec.MachineType = size
	return t
}

func TestMachineTemplateProjector_ShowsMinimumOfTheSize(t *testing.T) {
	t.Parallel()
	known := sizes{}
	projector := NewMachineTemplateProjector(Source{Sizes: known})
	project := func(record, previous runtime.Object) infrastructure.MetalStackMachineTemplateStatus {
		return projector.Project(record, previous).(*infrastructure.MetalStackMachineTemplate).Status
	}
	record := template("c1-large-x86")
	require.Empty(t, project(record, nil), "the size is not known yet")

	known["c1-large-x86"] = &metal.Size{ID: "c1-large-x86", Constraints: []metal.SizeConstraint{
		{Type: "cores", Min: 12, Max: 16}, {Type: "memory", Min: 64 << 30, Max: 128 << 30}, {Type: "storage", Min: 1, Max: 2},
		{Type: "gpu", Identifier: "AD102GL*", Min: 2, Max: 2}, {Type: "gpu", Identifier: "GA100 [A100 PCIe*", Min: 1, Max: 1},
		{Type: "gpu", Identifier: "Aldebaran*", Min: 4, Max: 8}, {Type: "gpu", Identifier: "Matrox*", Min: 1, Max: 1},
	}}
	status := project(record, nil)
	require.Equal(t, "12", status.Capacity.Cpu().String())
	require.Equal(t, "64Gi", status.Capacity.Memory().String())
	gpus := func(name corev1.ResourceName) int64 { return status.Capacity.Name(name, resource.DecimalSI).Value() }
	require.EqualValues(t, 3, gpus("nvidia.com/gpu"))
	require.EqualValues(t, 4, gpus("amd.com/gpu"))
	require.Len(t, status.Capacity, 4)
	require.Equal(t, &infrastructure.NodeInfo{Architecture: "amd64", OperatingSystem: "linux"}, status.NodeInfo)
	require.Empty(t, record.Status, "the record is not modified")

	shown := projector.Project(record, nil)
	delete(known, "c1-large-x86")
	require.Equal(t, status, project(record, shown), "not knowing it now proves nothing")
	require.Empty(t, project(template("other"), shown))
}

func TestMachineTemplateProjector_StripsStatus(t *testing.T) {
	t.Parallel()
	record := template("s")
	record.Status.Capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
	NewMachineTemplateProjector(Source{}).Strip(record)
	require.Empty(t, record.Status)
	require.Nil(t, NewMachineTemplateProjector(Source{}).Refs(record))
}

func TestMachineTemplateProjector_SizeWithoutConstraints(t *testing.T) {
	t.Parallel()
	projector := NewMachineTemplateProjector(Source{Sizes: sizes{"s": {ID: "s"}}})
	require.Empty(t, projector.Project(template("s"), nil).(*infrastructure.MetalStackMachineTemplate).Status)
}
