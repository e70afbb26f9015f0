// Code generated from ../has_metal.go by hack/update-codegen.sh. DO NOT EDIT.

// SPDX-License-Identifier: Apache-2.0

package v1alpha4

// HasMetal is whether metal may be allocated for an object whose allocation is
// a: a machine that is allocated, or that a call may still allocate. It is false
// for nil.
func (a *MachineAllocation) HasMetal() bool {
	return a != nil && a.begun()
}

// HasMetal is whether metal may be allocated for a cluster whose allocation is
// a. A network or an address that an attempt recorded before a later step was
// refused counts too; adopted ones do not, because a release keeps them. It is
// false for nil.
func (a *ClusterAllocation) HasMetal() bool {
	switch {
	case a == nil, a.Phase == AllocationReleased:
		return false
	case a.NetworkID != "" && !a.NetworkAdopted, a.IPAddress != "" && !a.IPAdopted:
		return true
	}
	return a.begun()
}

// HasMetal is whether a network may be allocated for an object whose allocation is a. An
// adopted one counts: because of the object, several clusters may have it. It is false for nil.
func (a *NetworkAllocation) HasMetal() bool {
	return a != nil && a.begun()
}

// HasMetal is whether an address may be allocated for an object whose allocation is a. An
// adopted one counts: an earlier attempt may have allocated another one. It is false for nil.
func (a *IPAllocation) HasMetal() bool {
	return a != nil && a.begun()
}

// begun is whether an allocation has begun and its metal was not released since.
func (a *AllocationState) begun() bool {
	return a.Phase != "" && a.Phase != AllocationReleased
}
