// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// transcriptForm is a block of the README under its marker: commands, and what they print.
var transcriptForm = regexp.MustCompile("(?m)^<!-- test: (.+) -->\n```console\n((?s:.*?))^```$")

// chance is what differs from run to run: ids, ages, addresses of which any may be allocated, the
// rack that a machine is in, and how far tables are indented.
var chance = []struct {
	form *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`), "ID"},
	{regexp.MustCompile(`\b203\.0\.113\.1\d\d\b( |:)`), "ADDRESS$1"},
	{regexp.MustCompile(`\b10\.0\.\d+\.0/22,2001:db8:0:10:[0-9:]*/96\b`), "PREFIXES"},
	{regexp.MustCompile(`\b10\.0\.\d+\.\d+( |$)`), "ADDRESS$1"},
	{regexp.MustCompile(`^[│├└─ ]+`), ""},
	{regexp.MustCompile(`\b(\d+[smh])+$`), "AGE"},
	{regexp.MustCompile(`\bin \d+d$`), "in DAYS"},
	{regexp.MustCompile(` +`), " "},
}

// comparable returns what is the same in each run, line by line. The order of lines is that of ids.
func comparable(output string) []string {
	var lines []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		for _, c := range chance {
			line = c.form.ReplaceAllString(line, c.as)
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

// TestREADME_TranscriptsAreWhatARunShows runs the commands under `<!-- test: NAME -->`, in their
// order, when all machines have phoned home.
func TestREADME_TranscriptsAreWhatARunShows(t *testing.T) {
	bin, err := programs()
	require.NoError(t, err)
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	transcripts := transcriptForm.FindAllStringSubmatch(string(readme), -1)
	require.NotEmpty(t, transcripts)
	r := startRun(t, bin)
	require.Eventually(t, func() bool { return strings.Contains(r.output.String(), "have phoned home after") }, 2*time.Minute, 50*time.Millisecond)

	for _, transcript := range transcripts {
		for part := range strings.SplitSeq("\n"+transcript[2], "\n$ ") {
			command, want, _ := strings.Cut(part, "\n")
			if command == "" {
				continue
			}
			assert.Eventually(t, func() bool { return assert.ObjectsAreEqual(comparable(want), comparable(r.shell(t, bin, command))) }, 2*time.Minute, 500*time.Millisecond)
			assert.Equal(t, comparable(want), comparable(r.shell(t, bin, command)), "%s: $ %s", transcript[1], command)
		}
	}
	require.NoError(t, r.cmd.Process.Signal(os.Interrupt))
	require.NoError(t, <-r.ended)
}

// shell runs a command as a reader does who has kubectl and its plugin, and returns what is printed.
func (r *running) shell(t *testing.T, bin, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	here, err := filepath.Abs(root)
	require.NoError(t, err)
	cmd := exec.CommandContext(ctx, "bash", "-c", command)
	cmd.Dir = here
	cmd.Env = []string{"PATH=" + bin + ":" + filepath.Join(here, "bin") + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "KUBECONFIG=" + filepath.Join(r.state, "kubeconfig")}
	output, err := cmd.CombinedOutput()
	if err != nil {
		return string(output) + err.Error()
	}
	return string(output)
}
