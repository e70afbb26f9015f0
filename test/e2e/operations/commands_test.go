// SPDX-License-Identifier: Apache-2.0

package operations_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

// page is the text that is tested, and upgradePage the part of it that is a page of its
// own.
const (
	page        = "docs/operations.md"
	upgradePage = "docs/upgrade.md"
)

// commandLimit is how long the commands of one block may take.
const commandLimit = 3 * time.Minute

var (
	fenceForm = regexp.MustCompile("(?m)^ *```sh$")
	// blockForm is a block of commands under its marker, which names it, or says
	// why it is not run.
	blockForm = regexp.MustCompile("(?m)^ *<!-- (test|not tested): (.+) -->\n *```sh\n((?s:.*?))^ *```$")
)

func root() string { return filepath.Join(cluster.Deploy(), "..", "..") }

func text(t testing.TB) string {
	t.Helper()
	return textOf(t, page)
}

func textOf(t testing.TB, page string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root(), page))
	require.NoError(t, err)
	return string(content)
}

// blocks are the commands that can be run, by name.
func blocks(t testing.TB) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, page := range []string{page, upgradePage} {
		text := textOf(t, page)
		all := blockForm.FindAllStringSubmatch(text, -1)
		require.Len(t, fenceForm.FindAllString(text, -1), len(all), "every block of commands in %s has a marker: `<!-- test: NAME -->` or `<!-- not tested: WHY -->`", page)
		for _, match := range all {
			if match[1] == "test" {
				require.NotContains(t, found, match[2])
				found[match[2]] = match[3]
			}
		}
	}
	return found
}

// run runs a block as an administrator would, and returns what it prints.
func (env *environment) run(t *testing.T, name string) (stdout, stderr string) {
	t.Helper()
	script, ok := env.blocks[name]
	require.True(t, ok, "neither %s nor %s has a block %q", page, upgradePage, name)
	delete(env.blocks, name)
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = root()
	cmd.Env = []string{
		"PATH=" + filepath.Join(root(), "bin") + ":" + os.Getenv("PATH"),
		"HOME=" + t.TempDir(),
		"KUBECONFIG=" + env.plane.Kubeconfig(env.plane.Admin()),
	}
	for key, value := range env.variables {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%s", key, value))
	}
	cmd.WaitDelay = 5 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	require.NoError(t, err, "%s\n%s", script, strings.TrimSpace(errs.String()))
	return out.String(), errs.String()
}
