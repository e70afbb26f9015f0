// SPDX-License-Identifier: Apache-2.0

// Package contract_test holds docs/contract.md to Cluster API's contract and to
// the tests that the page names, and tests of the contract what no other package
// does.
package contract_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../../.."

// pages name tests.
var pages = []string{"docs/contract.md", "docs/migration.md"}

var (
	// testForm is a test in a page: its package, its name, and its subtests'.
	testForm = regexp.MustCompile("`((?:pkg|test)/[a-z0-9/]+)\\.(Test\\w+(?:/\\w+)*)`")
	// ruleForm is a row of the tables of rules in Cluster API's pages.
	ruleForm = regexp.MustCompile(`(?m)^\| \[([^]]+)\] *\| (?:Yes|No) `)
)

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}

func TestPages_NamedTestsExist(t *testing.T) {
	t.Parallel()
	for _, page := range pages {
		named := testForm.FindAllStringSubmatch(read(t, filepath.Join(root, page)), -1)
		require.NotEmpty(t, named, page)
		for _, match := range named {
			sources := testsOf(t, match[1])
			parts := strings.Split(match[2], "/")
			assert.Contains(t, sources, "func "+parts[0]+"(t *testing.T)", "%s names %s", page, match[0])
			for _, subtest := range parts[1:] {
				assert.Contains(t, sources, `"`+subtest+`"`, "%s names %s", page, match[0])
			}
		}
	}
}

// testsOf is the text of all tests of a package.
func testsOf(t *testing.T, pkg string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	require.NoError(t, err)
	var all strings.Builder
	for _, file := range files {
		all.WriteString(read(t, file))
	}
	return all.String()
}

func TestPages_EveryClauseNamesItsTest(t *testing.T) {
	t.Parallel()
	rows := 0
	for _, line := range strings.Split(read(t, filepath.Join(root, pages[0])), "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| clause") || strings.HasPrefix(line, "| ---") {
			continue
		}
		rows++
		require.Len(t, cells, 4, line)
		last := cells[3]
		assert.True(t, testForm.MatchString(last) || strings.HasPrefix(last, "none: "), "a test, or `none: ` and why: %s", line)
	}
	require.NotZero(t, rows)
}

// The rules are read from the pages of the very version that go.mod requires,
// so that an update of it brings new ones to light.
func TestPages_HoldEveryRuleOfTheContract(t *testing.T) {
	t.Parallel()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/cluster-api").Output()
	require.NoError(t, err)
	page := read(t, filepath.Join(root, pages[0]))
	for file, atLeast := range map[string]int{"infra-cluster.md": 14, "infra-machine.md": 17} {
		contract := read(t, filepath.Join(strings.TrimSpace(string(dir)), "docs", "book", "src", "developer", "providers", "contracts", file))
		rules := ruleForm.FindAllStringSubmatch(contract, -1)
		require.GreaterOrEqual(t, len(rules), atLeast, file)
		for _, rule := range rules {
			name := strings.NewReplacer("`field", " field", "`", "").Replace(rule[1])
			assert.Contains(t, page, "| "+name+" |", file)
		}
	}
}
