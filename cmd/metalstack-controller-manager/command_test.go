// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCommand_PrintsItsVersion(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	command := newCommand()
	command.SetOut(&out)
	command.SetArgs([]string{"--version"})
	require.NoError(t, command.Execute())
	assert.Regexp(t, `^metalstack-controller-manager \S+ \(commit \S+, go1\.\S+\)\n$`, out.String())
}

func TestCommand_RefusesInvalidFlagsBeforeItConnects(t *testing.T) {
	t.Parallel()
	command := newCommand()
	command.SetArgs([]string{"--cluster-concurrency=0", "--kubeconfig=/does/not/exist"})
	require.ErrorContains(t, command.Execute(), "--cluster-concurrency must be at least 1")
}
