// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"context"
	"os/exec"
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
