// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

var (
	flagForm     = regexp.MustCompile(`(?m)^\s+(?:-\w, )?--([a-z0-9-]+)\b`)
	variableForm = regexp.MustCompile(`\$\((\w+)\)`)
)

func TestArguments_AreFlagsOfPrograms(t *testing.T) {
	t.Parallel()
	plane := controlplane.StartShared(t)
	objects := render(t, plane, "both")
	for program, deployment := range deployments(t, objects) {
		binary := cluster.Binary(t, program)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		help, err := exec.CommandContext(ctx, binary, "--help").CombinedOutput()
		require.NoError(t, err, string(help))
		flags := map[string]bool{}
		for _, match := range flagForm.FindAllStringSubmatch(string(help), -1) {
			flags[match[1]] = true
		}
		require.Greater(t, len(flags), 5, "the help lists flags")
		container := deployment.Spec.Template.Spec.Containers[0]
		variables := map[string]bool{}
		for _, env := range container.Env {
			variables[env.Name] = true
		}
		for _, arg := range container.Args {
			name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
			assert.True(t, strings.HasPrefix(arg, "--") && flags[name], "%s has no flag %s", program, arg)
			for _, match := range variableForm.FindAllStringSubmatch(arg, -1) {
				assert.True(t, variables[match[1]], "%s: %s is no variable of the container", arg, match[1])
			}
		}
		assert.Empty(t, container.Command, "the image's entry point is the program")
	}
}

// TestImages_ExistForEveryProgram reads the Dockerfile, since no container engine can
// be counted on: that the programs build for other platforms is for the
// compiler to say.
func TestImages_ExistForEveryProgram(t *testing.T) {
	t.Parallel()
	root := filepath.Join(cluster.Deploy(), "..", "..")
	content, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	require.NoError(t, err)
	dockerfile := string(content)
	for _, want := range []string{"FROM --platform=$BUILDPLATFORM ", "CGO_ENABLED=0", "GOOS=$TARGETOS", "GOARCH=$TARGETARCH", "-trimpath"} {
		assert.Contains(t, dockerfile, want, "static, for any platform")
	}
	stages := map[string]string{}
	for stage := range strings.SplitSeq(dockerfile, "\nFROM ") {
		head, body, _ := strings.Cut(stage, "\n")
		if from, name, ok := strings.Cut(head, " AS "); ok {
			stages[name] = from + "\n" + body
		}
	}
	assert.Regexp(t, `(?m)^gcr\.io/distroless/static\b[\s\S]*^USER [1-9]\d*:`, stages["base"], "nobody's account, by its number")
	programs, err := os.ReadDir(filepath.Join(root, "cmd"))
	require.NoError(t, err)
	for _, program := range programs {
		if strings.HasPrefix(program.Name(), "kubectl-") {
			continue // A plugin runs where kubectl does.
		}
		stage := stages[program.Name()]
		assert.True(t, strings.HasPrefix(stage, "base\n"), "no image of %s", program.Name())
		assert.Contains(t, stage, `ENTRYPOINT ["/`+program.Name()+`"]`)
		assert.NotContains(t, stage, "USER")
	}
}
