// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"strconv"
	"strings"
)

// MeansImage reports whether the image that a spec or request names can be the one with
// the full id: that one itself, or the version os-major.minor of which it is a patch. The
// metal-api compares versions as numbers.
func MeansImage(name, id string) bool {
	if name == id {
		return true
	}
	os, named, ok := imageVersion(name)
	otherOS, version, otherOK := imageVersion(id)
	return ok && otherOK && os == otherOS && named[0] == version[0] && named[1] == version[1] &&
		(named[2] == 0 || named[2] == version[2])
}

// imageVersion takes os-major.minor.patch apart. What is left out is zero.
func imageVersion(id string) (os string, version [3]uint64, ok bool) {
	dash := strings.LastIndexByte(id, '-')
	if dash < 0 {
		return "", version, false
	}
	parts := strings.Split(id[dash+1:], ".")
	if len(parts) > len(version) {
		return "", version, false
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil {
			return "", version, false
		}
		version[i] = n
	}
	return id[:dash], version, true
}
