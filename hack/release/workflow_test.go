// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/rhysd/actionlint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

func TestWorkflows_AreWhatGitHubTakes(t *testing.T) {
	t.Parallel()
	workflows, err := filepath.Glob("../../.github/workflows/*.yaml")
	require.NoError(t, err)
	require.Len(t, workflows, 3)
	linter, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{})
	require.NoError(t, err)
	found, err := linter.LintFiles(workflows, nil)
	require.NoError(t, err)
	assert.Empty(t, found)
}

// The job that builds runs code of all modules: it must not be able to publish or sign.
func TestReleaseWorkflow_BuildsWithoutRights(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../.github/workflows/release.yaml")
	require.NoError(t, err)
	var workflow struct {
		Permissions map[string]string
		Jobs        map[string]struct {
			Permissions map[string]string
			Needs       []string
			Steps       []struct{ Run, Uses string }
		}
		Defaults struct{ Run struct{ Shell string } }
	}
	require.NoError(t, yaml.Unmarshal(content, &workflow))
	assert.Empty(t, workflow.Permissions)
	assert.Equal(t, map[string]string{"contents": "read"}, workflow.Jobs["test"].Permissions)
	assert.Equal(t, map[string]string{"contents": "read"}, workflow.Jobs["build"].Permissions)
	assert.Equal(t, []string{"test", "build"}, workflow.Jobs["publish"].Needs)
	assert.Equal(t, "bash", workflow.Defaults.Run.Shell, "without a shell, GitHub's has no pipefail")
	for name, job := range workflow.Jobs {
		for _, step := range job.Steps {
			assert.NotRegexp(t, regexp.MustCompile(`\$\{\{`), step.Run, "%s: a tag's name is no part of a script, but in its environment", name)
		}
	}
}

// A tag of an action can be moved to other code.
func TestWorkflows_PinActions(t *testing.T) {
	t.Parallel()
	workflows, err := filepath.Glob("../../.github/workflows/*.yaml")
	require.NoError(t, err)
	uses := regexp.MustCompile(`(?m)^[ -]*uses: *(.*)$`)
	pinned := regexp.MustCompile(`^(\./\S+|\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+)$`)
	for _, file := range workflows {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, action := range uses.FindAllStringSubmatch(string(content), -1) {
			assert.Regexp(t, pinned, action[1], file)
		}
	}
}

func TestDependabot_UpdatesAllModules(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../.github/dependabot.yml")
	require.NoError(t, err)
	var config struct {
		Updates []struct {
			Ecosystem   string `json:"package-ecosystem"`
			Directories []string
		}
	}
	require.NoError(t, yaml.Unmarshal(content, &config))
	modules, err := filepath.Glob("../*/go.mod")
	require.NoError(t, err)
	want := []string{"/"}
	for _, module := range modules {
		want = append(want, "/hack/"+filepath.Base(filepath.Dir(module)))
	}
	require.Equal(t, "gomod", config.Updates[0].Ecosystem)
	assert.ElementsMatch(t, want, config.Updates[0].Directories)
}
