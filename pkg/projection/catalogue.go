// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// The resources of quotas.
const (
	quotaMachines  = "machines"
	quotaAddresses = "addresses"
)

// ProjectProjector shows a project in the namespace that is bound to it.
type ProjectProjector struct {
	readOnly
	Source
}

// Discovered implements storage.Projector.
func (p *ProjectProjector) Discovered(ref metal.Ref) (runtime.Object, []metal.Ref) {
	if ref.Kind != metal.KindProject || p.Catalogue == nil {
		return nil, nil
	}
	project := p.Catalogue.Project(ref.ID)
	namespace, bound := p.Bindings.Namespace(ref.ID)
	if project == nil || !bound {
		return nil, nil
	}
	object, ok := discoveredMeta(ref.Kind, namespace, project.ID, project.ID, project.Created)
	if !ok {
		return nil, nil
	}
	return &infrastructure.MetalStackProject{
		ObjectMeta: object,
		Status: infrastructure.MetalStackProjectStatus{
			ProjectID: project.ID, DisplayName: text(project.Name), Description: text(project.Description), Tenant: project.Tenant,
			Quotas: []infrastructure.ProjectQuota{
				{Resource: quotaMachines, Limit: clonePointer(project.Machines.Limit), Used: p.machinesOf(project)},
				{Resource: quotaAddresses, Limit: clonePointer(project.Addresses.Limit), Used: clonePointer(project.Addresses.Used)},
			},
			Reservations: p.reservationsOf(project.ID),
		},
	}, nil
}

// machinesOf is how many machines and firewalls the project has, as it is observed anyway.
func (p *ProjectProjector) machinesOf(project *metal.Project) *int64 {
	if p.Capacities == nil {
		return clonePointer(project.Machines.Used)
	}
	return new(int64(p.Capacities.AllocatedOf(project.ID, "", "")))
}

// reservationsOf are the reservations of a project; several of the same size and partition
// do not add up.
func (p *ProjectProjector) reservationsOf(project string) []infrastructure.SizeReservation {
	var all []infrastructure.SizeReservation
	for _, r := range p.Catalogue.Reservations() {
		if r.Project != project {
			continue
		}
		for _, partition := range r.Partitions {
			shown := infrastructure.SizeReservation{Size: r.Size, Partition: partition, Amount: int64(r.Amount)}
			if p.Capacities != nil {
				shown.Used = int64(min(p.Capacities.AllocatedOf(project, partition, r.Size), r.Amount))
			}
			all = append(all, shown)
		}
	}
	slices.SortFunc(all, func(a, b infrastructure.SizeReservation) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Size, b.Size), cmp.Compare(a.Amount, b.Amount))
	})
	return all
}

// PartitionProjector shows partitions, with what of their machines can be had.
type PartitionProjector struct {
	readOnly
	Source
}

// Discovered implements storage.Projector.
func (p *PartitionProjector) Discovered(ref metal.Ref) (runtime.Object, []metal.Ref) {
	if ref.Kind != metal.KindPartition || p.Catalogue == nil {
		return nil, nil
	}
	partition := p.Catalogue.Partition(ref.ID)
	if partition == nil {
		return nil, nil
	}
	object, ok := discoveredMeta(ref.Kind, "", partition.ID, partition.ID, partition.Created)
	if !ok {
		return nil, nil
	}
	return &infrastructure.MetalStackPartition{
		ObjectMeta: object,
		Status: infrastructure.MetalStackPartitionStatus{
			PartitionID: partition.ID, DisplayName: text(partition.Name), Description: text(partition.Description),
			Labels: maps.Clone(partition.Labels), Capacity: p.capacityOf(partition.ID),
		},
	}, nil
}

// capacityOf is what all users are shown alike, as a project without a reservation has it.
func (p *PartitionProjector) capacityOf(partition string) []infrastructure.SizeCapacity {
	if p.Capacities == nil {
		return nil
	}
	var all []infrastructure.SizeCapacity
	reservations := p.Catalogue.Reservations()
	for _, c := range p.Capacities.Capacities(partition) {
		if c.Total == 0 {
			continue
		}
		available, reserved := c.AvailableTo("", reservations, func(project string) int {
			return p.Capacities.AllocatedOf(project, partition, c.Size)
		})
		all = append(all, infrastructure.SizeCapacity{
			Size: c.Size, Total: int64(c.Total), Allocated: int64(c.Allocated), Free: int64(c.Free),
			Reserved: int64(reserved), Available: int64(available), Faulty: int64(c.Faulty), Unavailable: int64(c.Unavailable),
		})
	}
	slices.SortFunc(all, func(a, b infrastructure.SizeCapacity) int { return cmp.Compare(a.Size, b.Size) })
	return all
}

// SizeProjector shows sizes.
type SizeProjector struct {
	readOnly
	Source
}

// Discovered implements storage.Projector.
func (p *SizeProjector) Discovered(ref metal.Ref) (runtime.Object, []metal.Ref) {
	if ref.Kind != metal.KindSize || p.Catalogue == nil {
		return nil, nil
	}
	size := p.Catalogue.Size(ref.ID)
	if size == nil {
		return nil, nil
	}
	object, ok := discoveredMeta(ref.Kind, "", size.ID, size.ID, size.Created)
	if !ok {
		return nil, nil
	}
	shown := &infrastructure.MetalStackSize{
		ObjectMeta: object,
		Status: infrastructure.MetalStackSizeStatus{
			SizeID: size.ID, DisplayName: text(size.Name), Description: text(size.Description),
			Cores:   sizeRange(size, metal.ConstraintCores, decimalQuantity),
			Memory:  sizeRange(size, metal.ConstraintMemory, bytesQuantity),
			Storage: sizeRange(size, metal.ConstraintStorage, bytesQuantity),
			Images:  p.imagesOf(size.ID),
		},
	}
	for _, c := range size.Constraints {
		if c.Type == metal.ConstraintGPU {
			shown.Status.GPUs = append(shown.Status.GPUs, infrastructure.SizeGPU{Model: c.Identifier, Min: c.Min, Max: c.Max})
		}
	}
	slices.SortFunc(shown.Status.GPUs, func(a, b infrastructure.SizeGPU) int {
		return cmp.Or(cmp.Compare(a.Model, b.Model), cmp.Compare(a.Min, b.Min), cmp.Compare(a.Max, b.Max))
	})
	return shown, nil
}

// imagesOf are the constraints of the images of a size.
func (p *SizeProjector) imagesOf(size string) []infrastructure.SizeImageConstraint {
	var all []infrastructure.SizeImageConstraint
	for _, c := range p.Catalogue.SizeImageConstraints() {
		if c.Size != size {
			continue
		}
		for _, os := range slices.Sorted(maps.Keys(c.Images)) {
			all = append(all, infrastructure.SizeImageConstraint{OS: os, Versions: c.Images[os]})
		}
		break
	}
	return all
}

// sizeRange is the range of one type of hardware; nil if the size says nothing of it. Of
// hardware that the size splits by models it is the sum.
func sizeRange(size *metal.Size, kind string, quantity func(int64) resource.Quantity) *infrastructure.SizeRange {
	var least, most int64
	found := false
	for _, c := range size.Constraints {
		switch {
		case c.Type != kind:
		case c.Identifier == "":
			return &infrastructure.SizeRange{Min: quantity(c.Min), Max: quantity(c.Max)}
		default:
			least, most, found = least+c.Min, most+c.Max, true
		}
	}
	if !found {
		return nil
	}
	return &infrastructure.SizeRange{Min: quantity(least), Max: quantity(most)}
}

func decimalQuantity(n int64) resource.Quantity { return *resource.NewQuantity(n, resource.DecimalSI) }

// bytesQuantity has the form that is the shorter one: memory comes in powers of two, disks
// mostly in powers of ten.
func bytesQuantity(n int64) resource.Quantity {
	decimal, binary := decimalQuantity(n), *resource.NewQuantity(n, resource.BinarySI)
	if len(binary.String()) < len(decimal.String()) || n%(1<<20) == 0 && n%1e6 != 0 {
		return binary
	}
	return decimal
}

// ImageProjector shows images.
type ImageProjector struct {
	readOnly
	Source
}

// Discovered implements storage.Projector.
func (p *ImageProjector) Discovered(ref metal.Ref) (runtime.Object, []metal.Ref) {
	if ref.Kind != metal.KindImage || p.Catalogue == nil {
		return nil, nil
	}
	image := p.Catalogue.Image(ref.ID)
	if image == nil {
		return nil, nil
	}
	object, ok := discoveredMeta(ref.Kind, "", image.ID, image.ID, image.Created)
	if !ok {
		return nil, nil
	}
	os, version := image.ID, ""
	if dash := strings.LastIndexByte(image.ID, '-'); dash >= 0 {
		os, version = image.ID[:dash], image.ID[dash+1:]
	}
	newest := p.Catalogue.NewestImage(image.Alias)
	return &infrastructure.MetalStackImage{
		ObjectMeta: object,
		Status: infrastructure.MetalStackImageStatus{
			ImageID: image.ID, DisplayName: text(image.Name), Description: text(image.Description), OS: os, Version: version,
			Alias: image.Alias, Newest: newest != nil && newest.ID == image.ID,
			Features: slices.Compact(slices.Sorted(slices.Values(image.Features))), Classification: image.Classification,
			ExpirationTime: toSeconds(image.Expires),
		},
	}, nil
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	return new(*p)
}
