// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// SpecTags returns those of a machine's tags that a spec may have: none that is
// reserved or could not be a label of a Node, and one of each key, the first.
func SpecTags(tags []string) []string {
	var fit []string
	seen := map[string]bool{}
	for _, tag := range tags {
		key, _, _ := strings.Cut(tag, "=")
		if seen[key] || len(validateTags([]string{tag}, field.NewPath("tags"))) > 0 {
			continue
		}
		seen[key] = true
		fit = append(fit, tag)
	}
	return fit
}
