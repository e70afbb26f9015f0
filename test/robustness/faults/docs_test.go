// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// protocolRows are the rows of the tables in docs/allocation.md, by how they
// begin, and the steps that a crash "here" means.
var protocolRows = map[string][]string{
	"read the record | `allocateMachineLike`":                                                  nil, // nothing was done yet
	"if a call can be in flight, search for metal that carries the uid":                        {"machine/uncertain", "network/uncertain", "address/uncertain"},
	"swap to `Allocating`, with the next attempt and the time":                                 {"machine/begun", "network/begun", "address/begun"},
	"search once more, and check what the spec names":                                          {"machine/observed", "network/observed", "address/observed"},
	"start over if it is late; call, if this server still holds the Lease | `ensureAllocated`": {"machine/called", "network/called", "address/called"},
	"the answer is a refusal: swap back":                                                       {"machine/refused", "cluster/refused"},
	"the answer is lost: search again":                                                         {"machine/uncertain", "network/uncertain", "address/uncertain"},
	"the answer is a machine: swap to `Allocated`":                                             {"machine/answered", "machine/allocated", "network/recorded", "address/recorded", "cluster/allocated"},
	"read the record | `releaseMachineLike`":                                                   nil,
	"swap to `Releasing`, with the time":                                                       {"machine/releasing", "machine/free-begun", "cluster/releasing", "address/free-begun", "network/free-begun", "service-address/free-begun"},
	"no machine is recorded, but there was an attempt":                                         {"machine/uncertain", "machine/found"},
	"observe whose the machine is":                                                             {"machine/free-observed", "address/free-observed", "network/free-observed", "network/empty", "service-address/free-observed"},
	"start over if it is late; call, if this server still holds the Lease | `ensureFreed`":     {"machine/freed", "address/freed", "network/freed", "service-address/freed"},
	"observe until it is not ours any more, or the call is over":                               {"machine/free-uncertain", "address/free-uncertain", "network/free-uncertain", "service-address/free-uncertain"},
	"the metal-api refuses, or cannot be observed":                                             {"machine/release-refused", "cluster/release-refused"},
	"swap to `Released`":                                                                       {"machine/released", "address/released", "cluster/released", "service-address/released"},
	"an attempt that no operation works on":                                                    {"machine/allocated", "machine/refused"},
	"a machine carries the uid of a record that names another one":                             {"duplicate/free-begun", "duplicate/free-observed", "duplicate/freed"},
}

func TestDocs_EveryRowOfTheProtocolIsTried(t *testing.T) {
	text, err := os.ReadFile("../../../docs/allocation.md")
	require.NoError(t, err)
	_, steps, _ := strings.Cut(string(text), "## Steps")
	steps, _, _ = strings.Cut(steps, "\n## ")
	steps, _, _ = strings.Cut(steps, "\n### Claims") // pkg/allocation tries their steps
	missed := map[string]bool{}
	for row := range protocolRows {
		missed[row] = true
	}
	for line := range strings.Lines(steps) {
		row, isRow := strings.CutPrefix(line, "| ")
		if !isRow || strings.HasPrefix(row, "step |") || strings.HasPrefix(row, "---") {
			continue
		}
		known := false
		for begin, points := range protocolRows {
			if strings.HasPrefix(row, begin) {
				known = true
				delete(missed, begin)
				require.Subset(t, everyStep(), points, "%s", row)
			}
		}
		require.True(t, known, "no step is known for the row %q", row)
	}
	require.Empty(t, missed, "rows that are not in docs/allocation.md any more")
}

var (
	stepNames   = regexp.MustCompile(`\bcrashPoint\("([a-z-]+/[a-z-]+)"\)`)
	stepEndings = regexp.MustCompile(`\bcrashPoint\([\w.()]+ \+ "(/[a-z-]+)"\)`)
	subjects    = regexp.MustCompile(`what\(\) string \{ return "([a-z-]+)" \}`)
)

func TestPoints_EveryStepInTheCodeIsTried(t *testing.T) {
	var code strings.Builder
	entries, err := os.ReadDir("../../../pkg/allocation")
	require.NoError(t, err)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".go") && !strings.HasSuffix(e.Name(), "_test.go") {
			text, err := os.ReadFile("../../../pkg/allocation/" + e.Name())
			require.NoError(t, err)
			code.Write(text)
		}
	}
	for _, pattern := range []*regexp.Regexp{stepNames, stepEndings, subjects} {
		require.Greater(t, len(pattern.FindAllString(code.String(), -1)), 3, "%s", pattern)
	}
	for _, found := range stepNames.FindAllStringSubmatch(code.String(), -1) {
		require.Contains(t, everyStep(), found[1])
	}
	for _, found := range stepEndings.FindAllStringSubmatch(code.String(), -1) {
		tried := slices.ContainsFunc(everyStep(), func(step string) bool { return strings.HasSuffix(step, found[1]) })
		require.True(t, tried, "no step ends in %s", found[1])
	}
	for _, found := range subjects.FindAllStringSubmatch(code.String(), -1) {
		tried := slices.ContainsFunc(everyStep(), func(step string) bool { return strings.HasPrefix(step, found[1]+"/") })
		require.True(t, tried, "nothing is tried of a %s", found[1])
	}
}
