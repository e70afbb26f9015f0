// SPDX-License-Identifier: Apache-2.0

// Package imageversion compares versions of images with constraints of the metal-api. It must
// never refuse what the metal-api allows.
package imageversion

import (
	"regexp"
	"strconv"
	"strings"
)

// Version is major, minor and patch.
type Version [3]uint64

// Parse takes the id of an image, os-major.minor.patch, apart. What is left out is zero.
func Parse(id string) (os string, version Version, ok bool) {
	dash := strings.LastIndexByte(id, '-')
	if dash < 0 {
		return "", version, false
	}
	rest, more := id[dash+1:], true
	for i := 0; more; i++ {
		var part string
		part, rest, more = strings.Cut(rest, ".")
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil || i == len(version) {
			return "", version, false
		}
		version[i] = n
	}
	return id[:dash], version, true
}

// versionTerm is one comparison of a constraint; its version may lack parts.
var versionTerm = regexp.MustCompile(`^(=|!=|<|<=|>|>=)?\s*v?(\d+)(?:\.(\d+))?(?:\.(\d+))?$`)

// MayAllow reports whether a constraint allows a version, or is one that is not understood.
func MayAllow(constraint string, version Version) bool {
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

func termMayAllow(term string, version Version) bool {
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
