// SPDX-License-Identifier: Apache-2.0

package client

import (
	"strings"
	"unique"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// interner returns strings that all equal ones share, of this answer and others. It is for
// what many machines have in common: what only one has would need more memory. In front of
// the strings of all answers it keeps those of this one, which are found more quickly.
type interner map[string]string

func (i interner) intern(s string) string {
	if s == "" {
		return ""
	}
	shared, found := i[s]
	if !found {
		shared = unique.Make(s).Value()
		i[shared] = shared
	}
	return shared
}

func (i interner) internAll(list []string) []string {
	for n, s := range list {
		list[n] = i.intern(s)
	}
	return list
}

// internTags interns tags but those that name the object that one machine is for.
func (i interner) internTags(tags []string) []string {
	for n, tag := range tags {
		if !strings.HasPrefix(tag, metal.TagUID+"=") && !strings.HasPrefix(tag, metal.TagName+"=") {
			tags[n] = i.intern(tag)
		}
	}
	return tags
}
