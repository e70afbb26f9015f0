// SPDX-License-Identifier: Apache-2.0

package client

import (
	"strings"
	"unique"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// intern returns a string that all equal ones share. It is for what many machines have in
// common: what only one has would need more memory.
func intern(s string) string {
	if s == "" {
		return ""
	}
	return unique.Make(s).Value()
}

func internAll(list []string) []string {
	for i, s := range list {
		list[i] = intern(s)
	}
	return list
}

// internTags interns tags but those that name the object that one machine is for.
func internTags(tags []string) []string {
	for i, tag := range tags {
		if !strings.HasPrefix(tag, metal.TagUID+"=") && !strings.HasPrefix(tag, metal.TagName+"=") {
			tags[i] = intern(tag)
		}
	}
	return tags
}
