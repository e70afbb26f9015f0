// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"regexp"
	"strconv"
	"strings"
)

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
	os, version, ok := imageVersion(image)
	if !ok {
		return false
	}
	versions, named := l.Images[os]
	return !named || !mayAllow(versions, version)
}

// versionTerm is one comparison of a constraint; its version may lack parts.
var versionTerm = regexp.MustCompile(`^(=|!=|<|<=|>|>=)?\s*v?(\d+)(?:\.(\d+))?(?:\.(\d+))?$`)

// mayAllow reports whether a constraint allows a version, or is one that is not understood.
func mayAllow(constraint string, version [3]uint64) bool {
	for alternative := range strings.SplitSeq(constraint, "||") {
		all := true
		for term := range strings.SplitSeq(alternative, ",") {
			all = all && termMayAllow(strings.TrimSpace(term), version)
		}
		if all {
			return true
		}
	}
	return false
}

func termMayAllow(term string, version [3]uint64) bool {
	m := versionTerm.FindStringSubmatch(term)
	if m == nil {
		return true // `*`, a range, or several terms
	}
	compared, parts := 0, 0
	for i, text := range m[2:] {
		if text == "" {
			break
		}
		parts++
		n, err := strconv.ParseUint(text, 10, 64)
		switch {
		case err != nil:
			return true
		case compared != 0:
		case version[i] < n:
			compared = -1
		case version[i] > n:
			compared = 1
		}
	}
	switch m[1] {
	case "", "=":
		return compared == 0
	case "!=":
		return compared != 0
	case ">=":
		return compared >= 0
	case "<":
		return compared < 0
	case ">":
		// Of a version without its last parts, what is above differs between libraries.
		return compared > 0 || parts < len(version) && compared == 0
	}
	return compared <= 0
}
