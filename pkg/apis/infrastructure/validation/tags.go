// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// reservedTagPrefixes are the prefixes of tags that a spec may not set: the first
// is that of the identity of our objects, the others are written by metal-stack.
var reservedTagPrefixes = []string{
	infrastructure.IdentityPrefix,
	"cluster.metal-stack.io/",
	"machine.metal-stack.io/",
}

const maxTagLength = 317 // A label's: prefix 253, slash, name 63.

// validateTags validates tags by the rules of metal-ccm, which turns every
// `key=value` into a label of the Node. If one of them is not a valid label, the
// Node gets none.
func validateTags(tags []string, path *field.Path) field.ErrorList {
	if errs := tooMany(len(tags), maxTags, path); errs != nil {
		return errs
	}
	var errs field.ErrorList
	seen := map[string]string{}
	for i, tag := range tags {
		path := path.Index(i)
		if long := tooLong(tag, maxTagLength, path); long != nil {
			errs = append(errs, long...)
			continue
		}
		key, value, isPair := strings.Cut(tag, "=")
		switch other, found := seen[key]; {
		case found && other == tag:
			errs = append(errs, field.Duplicate(path, tag))
		case found:
			errs = append(errs, field.Invalid(path, tag, fmt.Sprintf("duplicate key: Node labels must be unique, and %q has the same key", other)))
		}
		seen[key] = tag

		reserved := func(prefix string) bool { return strings.HasPrefix(tag, prefix) }
		switch {
		case slices.ContainsFunc(reservedTagPrefixes, reserved):
			errs = append(errs, field.Forbidden(path, fmt.Sprintf("%q is reserved for ownership, as are all tags with the prefixes %s", tag, strings.Join(reservedTagPrefixes, ", "))))
		case isPair:
			for _, msg := range validation.IsQualifiedName(key) {
				errs = append(errs, field.Invalid(path, tag, "key must be a valid label key, since it becomes a label of the Node: "+msg))
			}
			for _, msg := range validation.IsValidLabelValue(value) {
				errs = append(errs, field.Invalid(path, tag, "value must be a valid label value, since it becomes a label of the Node: "+msg))
			}
		default:
			errs = append(errs, validatePlainTag(tag, path)...)
		}
	}
	return errs
}

func validatePlainTag(tag string, path *field.Path) field.ErrorList {
	switch {
	case strings.TrimSpace(tag) == "":
		return field.ErrorList{field.Invalid(path, tag, "must not be empty")}
	case strings.ContainsFunc(tag, unprintable):
		return field.ErrorList{field.Invalid(path, tag, "must not contain control characters")}
	}
	return nil
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
