// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clocktesting "k8s.io/utils/clock/testing"
)

// complete returns what a shell suggests.
func (s *fakeServer) complete(args ...string) []string {
	s.t.Helper()
	var out bytes.Buffer
	env := Environment{IOStreams: genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &bytes.Buffer{}}, Clock: clocktesting.NewFakeClock(now)}
	require.Zero(s.t, Run(s.t.Context(), append([]string{"__complete"}, append(s.global(), args...)...), env))
	var suggested []string
	for line := range strings.Lines(out.String()) {
		word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !strings.HasPrefix(word, ":") {
			suggested = append(suggested, word)
		}
	}
	return suggested
}

func TestCompletion_SuggestsNames(t *testing.T) {
	t.Parallel()
	s := shop(t)
	id := discovered().Name
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"describe", ""}, []string{"worker-1", id}},
		{[]string{"log", "wor"}, []string{"worker-1"}},
		{[]string{"power", "cycle", "w"}, []string{"worker-1"}},
		{[]string{"power", "status", ""}, []string{"worker-1", id}},
		{[]string{"power", "wo"}, []string{"worker-1"}},
		{[]string{"log", "--firewall", ""}, []string{"shop-1"}},
		{[]string{"log", "firewall/"}, []string{"firewall/shop-1"}},
		{[]string{"log", "msm/w"}, []string{"msm/worker-1"}},
		{[]string{"log", "pod/"}, nil},
		{[]string{"log", "worker-1", ""}, nil},
		{[]string{"wait", "worker-1", "--for", ""}, goals},
		{[]string{"ls", ""}, nil},
		{[]string{"ls", "--context", ""}, []string{"here"}},
		{[]string{"iss"}, []string{"issues"}},
	} {
		assert.Equal(t, c.want, s.complete(c.args...), c.args)
	}
}

// A shell shows no errors.
func TestCompletion_IsEmptyWithoutAServer(t *testing.T) {
	t.Parallel()
	s := shop(t)
	s.Close()
	assert.Empty(t, s.complete("describe", ""))
}

// kubectl runs the script kubectl_complete-metal with what was typed.
func TestCompletion_ScriptCallsThePlugin(t *testing.T) {
	t.Parallel()
	script, err := filepath.Abs("../../artifacts/krew/kubectl_complete-metal")
	require.NoError(t, err)
	dir := t.TempDir()
	fake := "#!/bin/sh\nfor a in \"$@\"; do echo \"<$a>\"; done\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kubectl-metal"), []byte(fake), 0o700))
	cmd := exec.CommandContext(t.Context(), "sh", script, "log", "a b", "")
	cmd.Env = []string{"PATH=" + dir + ":" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err)
	assert.Equal(t, "<__complete>\n<log>\n<a b>\n<>\n", string(out))
}
