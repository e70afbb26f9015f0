// SPDX-License-Identifier: Apache-2.0

package metal

import "metal-stack.io/infrastructure-apiserver/pkg/imageversion"

// MeansImage reports whether the image that a spec or request names can be the one with
// the full id: that one itself, or the version os-major.minor of which it is a patch. The
// metal-api compares versions as numbers.
func MeansImage(name, id string) bool {
	if name == id {
		return true
	}
	os, named, ok := imageversion.Parse(name)
	otherOS, version, otherOK := imageversion.Parse(id)
	return ok && otherOK && os == otherOS && named[0] == version[0] && named[1] == version[1] &&
		(named[2] == 0 || named[2] == version[2])
}

// imageRelease is the version os-major.minor of images, which an alias names.
type imageRelease struct {
	os           string
	major, minor uint64
}

// NewestImages are the newest images of each version os-major.minor.
type NewestImages map[imageRelease]*Image

// NewNewestImages returns the newest of the images. As the metal-api does, it takes those
// that have expired, or are deprecated or previews, too.
func NewNewestImages(images []*Image) NewestImages {
	newest := NewestImages{}
	for _, i := range images {
		os, version, ok := imageversion.Parse(i.ID)
		if !ok {
			continue
		}
		release := imageRelease{os, version[0], version[1]}
		if other := newest[release]; other == nil || NewerImage(i.ID, other.ID) {
			newest[release] = i
		}
	}
	return newest
}

// Of returns the image that an alias stands for when a machine is allocated; nil if there
// is none, or the name is that of a single image.
func (n NewestImages) Of(alias string) *Image {
	os, version, ok := imageversion.Parse(alias)
	if !ok || version[2] != 0 {
		return nil
	}
	return n[imageRelease{os, version[0], version[1]}]
}

// NewerImage reports whether an image is a later patch of the same version os-major.minor
// than another one.
func NewerImage(id, than string) bool {
	os, version, ok := imageversion.Parse(id)
	otherOS, other, otherOK := imageversion.Parse(than)
	return ok && otherOK && os == otherOS && version[0] == other[0] && version[1] == other[1] && version[2] > other[2]
}
