// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSizeImageConstraint_RefusesOnlyVersionsOfANamedOperatingSystem(t *testing.T) {
	t.Parallel()
	// As recorded: exchanges-2, 637 and 647.
	c := &SizeImageConstraint{Size: "v1-small-x86", Images: map[string]string{"ubuntu": ">= 24.04.20260101", "firewall-ubuntu": "*"}}
	for image, want := range map[string]bool{
		"ubuntu-24.04.20250701":       true,
		"ubuntu-24.04.20260101":       false,
		"firewall-ubuntu-3.0.2025010": false,
		"debian-13.0.20260101":        false,
		"no version":                  false,
	} {
		os, versions, refuses := c.Refuses(image)
		assert.Equal(t, want, refuses, image)
		if refuses {
			assert.Equal(t, "ubuntu >= 24.04.20260101", os+" "+versions)
		}
	}
}

func TestFilesystemLayout_MayFitItsSizesAndImages(t *testing.T) {
	t.Parallel()
	l := &FilesystemLayout{ID: "default-small", Sizes: []string{"v1-small-x86"}, Images: map[string]string{"ubuntu": "*", "debian": ">= 13.0"}}
	assert.True(t, l.MayFit("v1-small-x86", "ubuntu-24.04.20260101"))
	assert.True(t, l.MayFit("v1-small-x86", "debian-13.0.20260101"))
	assert.False(t, l.MayFit("v1-small-x86", "debian-12.0.20260101"))
	assert.False(t, l.MayFit("v1-small-x86", "firewall-ubuntu-3.0.20260101"))
	assert.False(t, l.MayFit("c1-large-x86", "ubuntu-24.04.20260101"))
	assert.False(t, (&FilesystemLayout{ID: "manual"}).MayFit("v1-small-x86", "ubuntu-24.04.20260101"), "one without constraints is chosen by its id only")
}
