// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"slices"

	"metal-stack.io/infrastructure-apiserver/pkg/imageversion"
)

// Refuses reports whether machines of the size can certainly not be installed with the image,
// whose id is exact, and which versions of its operating system they can be installed with.
func (c *SizeImageConstraint) Refuses(image string) (os, versions string, refuses bool) {
	os, version, ok := imageversion.Parse(image)
	if !ok {
		return "", "", false
	}
	versions, named := c.Images[os]
	return os, versions, named && !imageversion.MayAllow(versions, version)
}

// MayFit reports whether the layout can be the one that the metal-api chooses for a size and an
// image, whose id is exact.
func (l *FilesystemLayout) MayFit(size, image string) bool {
	os, version, ok := imageversion.Parse(image)
	if !slices.Contains(l.Sizes, size) {
		return false
	}
	if !ok {
		return true
	}
	versions, named := l.Images[os]
	return named && imageversion.MayAllow(versions, version)
}
