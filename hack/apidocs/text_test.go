// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCell_IsOneLineOfMarkdown(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]string{
		"of two\nlines": "of two lines",
		"a list:\n  - one\n    long item\n  - two": "a list:<ul><li>one long item</li><li>two</li></ul>",
		"`a|b` or <id>, not `<id>`":                "`a\\|b` or &lt;id>, not `<id>`",
		"one\n\nparagraph":                         "one<br> paragraph",
	} {
		assert.Equal(t, want, cell(doc))
	}
}

func TestEnumerations_RefuseFolderWithoutTypes(t *testing.T) {
	t.Parallel()
	_, err := readEnumerations(t.TempDir(), "pkg/apis")
	assert.ErrorContains(t, err, "run it in the root of the repository")
}
