// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
	"golang.org/x/mod/semver"
)

const root = "../.."

func text(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return string(content)
}

func TestVersions_AreThoseOfClusterAPI(t *testing.T) {
	t.Parallel()
	all, err := pinnedVersions(root)
	require.NoError(t, err)
	var minors []string
	for _, v := range all {
		minors = append(minors, v.minor)
	}

	// Cluster API's own page says which it supports for management clusters.
	capi, err := pinned(filepath.Join(root, "go.mod"), "sigs.k8s.io/cluster-api")
	require.NoError(t, err)
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/cluster-api").Output()
	require.NoError(t, err)
	page := text(t, strings.TrimSpace(string(dir)), "docs", "book", "src", "reference", "versions.md")
	_, page, found := strings.Cut(page, "### Core provider")
	require.True(t, found)
	column := -1
	var supported []string
	for line := range strings.Lines(page) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			if column >= 0 {
				break
			}
			continue
		}
		for i, cell := range cells {
			if column < 0 && strings.HasPrefix(strings.TrimSpace(cell), semver.MajorMinor(capi)) {
				column = i
			}
		}
		name, isVersion := strings.CutPrefix(strings.TrimSpace(cells[1]), "Kubernetes ")
		if isVersion && strings.Contains(cells[column], "✓") && !strings.Contains(cells[column], "only workload") {
			supported = append(supported, name)
		}
	}
	assert.Equal(t, supported, minors, "Cluster API %s supports these: hack/compat/module.sh adds one", capi)
}

func TestVersions_OfDefaultAgree(t *testing.T) {
	t.Parallel()
	controlplane, err := pinned(filepath.Join(root, "hack", "controlplane", "go.mod"), "k8s.io/kubernetes")
	require.NoError(t, err)
	library, err := pinned(filepath.Join(root, "go.mod"), "k8s.io/apiserver")
	require.NoError(t, err)
	assert.Equal(t, strings.Replace(controlplane, "v1.", "v0.", 1), library, "go.mod and hack/controlplane/go.mod")
	capi, err := pinned(filepath.Join(root, "go.mod"), "sigs.k8s.io/cluster-api")
	require.NoError(t, err)
	for module, want := range map[string]string{"K8S": controlplane, "CAPI": capi} {
		assert.Regexp(t, `(?m)^`+module+` +:= `+regexp.QuoteMeta(want)+`$`, text(t, root, "Makefile"))
	}
}

func TestREADME_TableHasEveryVersionAndArea(t *testing.T) {
	t.Parallel()
	_, after, found := strings.Cut(text(t, root, "README.md"), begin+"\n")
	require.True(t, found)
	block, _, found := strings.Cut(after, end)
	require.True(t, found)
	var rows [][]string
	for line := range strings.Lines(block) {
		if strings.HasPrefix(line, "|") {
			var cells []string
			for cell := range strings.SplitSeq(strings.Trim(line, "|\n"), "|") {
				cells = append(cells, strings.TrimSpace(cell))
			}
			rows = append(rows, cells)
		}
	}
	all, err := pinnedVersions(root)
	require.NoError(t, err)
	require.Len(t, rows, len(areas)+2)
	header := []string{corner}
	for _, v := range all {
		header = append(header, v.full)
	}
	assert.Equal(t, header, rows[0])
	for i, a := range areas {
		row := rows[i+2]
		require.Len(t, row, len(header), a.name)
		assert.Equal(t, a.name, row[0])
		for j, cell := range row[1:] {
			assert.Contains(t, []string{passed, passed + "*", skipped, notRun}, cell, "%s with %s: run make compat", a.name, all[j].full)
		}
	}
	capi, err := pinned(filepath.Join(root, "go.mod"), "sigs.k8s.io/cluster-api")
	require.NoError(t, err)
	assert.Contains(t, block, "Cluster API "+capi)
	assert.Regexp(t, "(?m)^"+arm64Line+"("+passed+"|"+notRun+")$", block)
}

func TestAreas_NameTestsThatExist(t *testing.T) {
	t.Parallel()
	for _, a := range areas {
		for p, names := range a.tests {
			files, err := filepath.Glob(filepath.Join(root, p, "*_test.go"))
			require.NoError(t, err)
			var sources strings.Builder
			for _, file := range files {
				sources.WriteString(text(t, file))
			}
			for _, name := range names {
				parts := strings.Split(name, "/")
				assert.Contains(t, sources.String(), "func "+parts[0]+"(t *testing.T)", "%s: %s", p, name)
				for _, subtest := range parts[1:] {
					assert.Contains(t, sources.String(), `"`+subtest+`"`, "%s: %s", p, name)
				}
			}
		}
	}
}

// In a clean clone nothing is built, and the repository of clusterctl is made by bin/release.
func TestMakefile_BuildsWhatClusterAPIIsTestedWith(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"demo", "compat"} {
		_, rest, found := strings.Cut(text(t, root, "Makefile"), "\n"+target+": ")
		require.True(t, found, target)
		prerequisites, _, _ := strings.Cut(rest, "##")
		assert.Subset(t, strings.Fields(prerequisites), []string{"controlplane", "capi", "$(BIN)/release"}, target)
	}
}

func TestChoose_NamesWhatThereIs(t *testing.T) {
	t.Parallel()
	all := []version{{full: "v1.33.13", minor: "v1.33"}, {full: "v1.34.4", minor: "v1.34"}}
	chosen, err := choose(all, " v1.34 ")
	require.NoError(t, err)
	assert.Equal(t, all[1:], chosen)
	chosen, err = choose(all, "")
	require.NoError(t, err)
	assert.Equal(t, all, chosen)
	_, err = choose(all, "v1.33 v1.9")
	require.EqualError(t, err, `versions: "v1.9": want some of v1.33, v1.34`)
}

func TestSelectAreas_NamesWhatThereIs(t *testing.T) {
	t.Parallel()
	selected, err := selectAreas([]string{"OpenAPI", "Discovery"})
	require.NoError(t, err)
	assert.Equal(t, areas[1:3], selected)
	_, err = selectAreas([]string{"Openapi"})
	require.ErrorContains(t, err, `areas: "Openapi": want some of Installation, `)
}

func TestPinnedVersions_RefuseFolderOfAnotherVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for folder, content := range map[string]string{
		"controlplane": "module a\nrequire k8s.io/kubernetes v1.36.3\n",
		"compat/v1.33": "module b\nrequire k8s.io/kubernetes v1.34.4\n",
	} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "hack", folder), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "hack", folder, "go.mod"), []byte(content), 0o600))
	}
	_, err := pinnedVersions(dir)
	require.ErrorContains(t, err, "pins Kubernetes v1.34.4: want a version of v1.33")
}

// events is what go tool test2json prints.
const events = `{"Action":"start"}
{"Action":"run","Test":"TestA"}
{"Action":"output","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"run","Test":"TestA/good"}
{"Action":"pass","Test":"TestA/good"}
{"Action":"run","Test":"TestA/old"}
{"Action":"output","Test":"TestA/old","Output":"    version.go:31: v1.33 has no plums: v1.36 has\n"}
{"Action":"output","Test":"TestA/old","Output":"I0101 00:00:00.000000 warnings.go:107] \"Warning: of another test\"\n"}
{"Action":"output","Test":"TestA/old","Output":"--- SKIP: TestA/old (0.00s)\n"}
{"Action":"skip","Test":"TestA/old"}
{"Action":"run","Test":"TestA/bad"}
{"Action":"run","Test":"TestA/bad/deep"}
{"Action":"output","Test":"TestA/bad/deep","Output":"    a_test.go:1: broken\n"}
{"Action":"fail","Test":"TestA/bad/deep"}
{"Action":"fail","Test":"TestA/bad"}
{"Action":"fail","Test":"TestA"}
not JSON
{"Action":"fail"}`

func TestTable_ShowsWhatBecameOfTests(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	o := read(strings.NewReader(events), &log)
	assert.Contains(t, log.String(), "a_test.go:1: broken\n")
	o.log, o.err = "a.log", errors.New("exit status 1")

	of := func(name string, tests ...string) area { return area{name, map[string][]string{"test/a": tests}} }
	table := &table{areas: []area{
		of("all good", "TestA/good"), of("all old", "TestA/old"), of("partly old", "TestA/good", "TestA/old"),
		of("bad", "TestA/good", "TestA/bad"), of("not run", "TestB/c"), {"no package", map[string][]string{"test/b": {"TestC"}}},
	}, stack: "With this.", arm64: failedPrefix + "no output"}
	v := version{full: "v1.33.13", minor: "v1.33"}
	table.add(v, map[string]*outcome{"test/a": o})
	good := &outcome{results: map[string]string{"TestA/good": pass, "TestA/old": pass, "TestA/bad": pass, "TestB/c": pass}}
	table.add(version{full: "v1.34.4", minor: "v1.34"}, map[string]*outcome{"test/a": good, "test/b": {results: map[string]string{"TestC": pass}}})
	assert.Equal(t, `| Area | v1.33.13 | v1.34.4 |
| --- | --- | --- |
| all good | ✓ | ✓ |
| all old | – | ✓ |
| partly old | ✓* | ✓ |
| bad | ✗ TestA/bad/deep | ✓ |
| not run | ✗ TestB/c | ✓ |
| no package | ✗ TestC | ✓ |

- v1.33, all old: v1.33 has no plums: v1.36 has.
- v1.33, partly old: v1.33 has no plums: v1.36 has.
- With this.
- linux/arm64, under qemu-user: failed: no output
`, table.markdown())
	assert.Equal(t, []string{
		"v1.33.13: bad: test/a.TestA/bad/deep: see a.log",
		"v1.33.13: not run: test/a.TestB/c: see a.log",
		"v1.33.13: no package: test/b.TestC: see ",
		"linux/arm64: failed: no output",
	}, table.failed())
	assert.Contains(t, table.line(v), "v1.33.13  all good ✓  all old –")
}

func TestARM64_KnowsWhatProgramsPrint(t *testing.T) {
	t.Parallel()
	require.NoError(t, isVersion("metalstack-apiserver", "metalstack-apiserver unknown (commit unknown, go1.26.8)\n"))
	require.NoError(t, isVersion(plugin, "kubectl metal unknown (commit unknown, go1.26.8)\n"))
	require.EqualError(t, isVersion("metalstack-apiserver", "exec format error\n"), `metalstack-apiserver --version: printed "exec format error\n"`)
}

func TestPattern_SelectsTestsOfAPackage(t *testing.T) {
	t.Parallel()
	some := []area{{"a", map[string][]string{"p": {"TestA", "TestB/c"}}}, {"b", map[string][]string{"q": {"TestD"}, "p": {"TestB/e/f"}}}}
	assert.Equal(t, "^TestA$|^TestB$/^c$|^TestB$/^e$/^f$", pattern(some, "p"))
	assert.Equal(t, []string{"p", "q"}, packages(some))
}

// A process can fail although all tests have passed: in TestMain, for example.
func TestTable_ShowsPackageThatFailedWithoutTest(t *testing.T) {
	t.Parallel()
	o := &outcome{results: map[string]string{"TestA": pass}, err: errors.New("exit status 1"), log: "a.log"}
	table := &table{areas: []area{{"a", map[string][]string{"test/a": {"TestA"}}}}}
	table.add(version{full: "v1.33.13", minor: "v1.33"}, map[string]*outcome{"test/a": o})
	assert.Equal(t, []string{"✗ test/a"}, table.columns[0].cells)
	assert.Equal(t, []string{"v1.33.13: a: test/a: exit status 1: see a.log"}, table.failed())
}

func TestUpdatePage_KeepsWhatWasNotRun(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "README.md")
	all := []version{{full: "v1.33.13", minor: "v1.33"}, {full: "v1.34.4", minor: "v1.34"}, {full: "v1.35.2", minor: "v1.35"}}
	rows := []area{{name: "a"}, {name: "b"}}
	run := func(v version, stack, arm64 string, notes ...string) string {
		table := &table{areas: rows, columns: []column{{version: v, cells: []string{"✓", "✓*"}, notes: notes}}, stack: stack, arm64: arm64}
		require.NoError(t, table.updatePage(page, all, rows))
		return text(t, page)
	}
	const header = "| Area | v1.33.13 | v1.34.4 | v1.35.2 |\n| --- | --- | --- | --- |\n"
	require.NoError(t, os.WriteFile(page, []byte("before\n"+begin+"\n"+end+"\nafter\n"), 0o600))
	assert.Equal(t, "before\n"+begin+"\n"+header+`| a | not run | ✓ | not run |
| b | not run | ✓* | not run |

- v1.34, b: old $1.
- With this.
- linux/arm64, under qemu-user: ✓
`+end+"\nafter\n", run(all[1], "With this.", passed, "- v1.34, b: old $1."))

	assert.Contains(t, run(all[0], "With this.", notRun, "- v1.33, b: older."), header+`| a | ✓ | ✓ | not run |
| b | ✓* | ✓* | not run |

- v1.33, b: older.
- v1.34, b: old $1.
- With this.
- linux/arm64, under qemu-user: ✓
`, "what was run before stays")

	one := &table{areas: rows[1:], columns: []column{{version: all[2], cells: []string{"✓"}}, {version: all[1], cells: []string{"✓"}}}, stack: "With this.", arm64: notRun}
	require.NoError(t, one.updatePage(page, all, rows))
	assert.Contains(t, text(t, page), header+`| a | ✓ | ✓ | not run |
| b | ✓* | ✓ | ✓ |

- v1.33, b: older.
- With this.
- linux/arm64, under qemu-user: ✓
`, "one area")

	assert.Contains(t, run(all[2], "With that.", notRun), header+`| a | not run | not run | ✓ |
| b | not run | not run | ✓* |

- With that.
- linux/arm64, under qemu-user: not run
`, "what was run with other programs says nothing of these")

	more := append(rows, area{name: "c"})
	with := &table{areas: more[2:], columns: []column{{version: all[0], cells: []string{"✓"}}}, stack: "With that.", arm64: notRun}
	require.NoError(t, with.updatePage(page, all, more))
	assert.Contains(t, text(t, page), header+`| a | not run | not run | ✓ |
| b | not run | not run | ✓* |
| c | ✓ | not run | not run |
`, "another area")

	require.NoError(t, os.WriteFile(page, []byte("nothing\n"), 0o600))
	require.ErrorContains(t, (&table{}).updatePage(page, all, rows), "no table between")
}

func TestModules_ReplaceStagingByTheirVersion(t *testing.T) {
	t.Parallel()
	all, err := pinnedVersions(root)
	require.NoError(t, err)
	for _, v := range all {
		file := filepath.Join(root, "hack", "compat", v.minor, "go.mod")
		if v.bin == "bin" {
			file = filepath.Join(root, "hack", "controlplane", "go.mod")
		}
		mod, err := modfile.Parse(file, []byte(text(t, file)), nil)
		require.NoError(t, err)
		assert.Greater(t, len(mod.Replace), 25, file)
		for _, replace := range mod.Replace {
			assert.Equal(t, replace.Old.Path+" "+strings.Replace(v.full, "v1.", "v0.", 1), replace.New.Path+" "+replace.New.Version, file)
		}
	}
}
