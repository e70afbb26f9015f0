// SPDX-License-Identifier: Apache-2.0

package model

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var quoted = regexp.MustCompile("`([A-Za-z]+)`")

func TestDocs_StepsAreFunctionsOfTheProtocol(t *testing.T) {
	t.Parallel()
	declared := map[string]bool{}
	files, err := filepath.Glob("../../../pkg/allocation/*.go")
	require.NoError(t, err)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok {
				declared[f.Name.Name] = true
			}
		}
	}
	page, err := os.ReadFile("../../../docs/allocation.md")
	require.NoError(t, err)
	steps, ofSteps := 0, false
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 {
			ofSteps = false
			continue
		}
		if strings.TrimSpace(cells[2]) == "function" {
			ofSteps = true
		}
		if !ofSteps {
			continue
		}
		for _, name := range quoted.FindAllStringSubmatch(cells[2], -1) {
			assert.True(t, declared[name[1]], "%s is no function of pkg/allocation: %s", name[1], line)
			steps++
		}
	}
	assert.Greater(t, steps, 15)
}
