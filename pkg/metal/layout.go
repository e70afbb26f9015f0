// SPDX-License-Identifier: Apache-2.0

package metal

import "metal-stack.io/infrastructure-apiserver/pkg/imageversion"

// FilesystemLayout is how disks are laid out. The metal-api chooses the one that fits size and
// image, unless an allocation names one.
type FilesystemLayout struct {
	ID string
	// Sizes are those that the layout is for, and Images the versions, by operating system.
	Sizes  []string
	Images map[string]string
}

// Layout is the file system layout of an allocation.
type Layout struct {
	ID string
	// AllocationUUID is the allocation that it belongs to.
	AllocationUUID string
	// Reinstallable is true if a disk of the layout is wiped by a reinstallation: the
	// metal-api refuses one otherwise.
	Reinstallable bool
	// Images are the operating systems of the images that the layout is for, with the
	// versions, such as `*` or `>= 24.04`. It is empty if it is for no image in particular: then it
	// was chosen by its id.
	Images map[string]string
}

// Refuses reports whether the layout is certainly not for the image, whose id is exact. The
// metal-api does not check that when it reinstalls.
func (l *Layout) Refuses(image string) bool {
	if len(l.Images) == 0 {
		return false
	}
	os, version, ok := imageversion.Parse(image)
	if !ok {
		return false
	}
	versions, named := l.Images[os]
	return !named || !imageversion.MayAllow(versions, version)
}
