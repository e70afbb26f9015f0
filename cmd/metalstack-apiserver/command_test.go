// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCommand_HelpListsFlagsByTopic(t *testing.T) {
	var out bytes.Buffer
	cmd := newCommand(context.Background())
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--help"})
	require.NoError(t, cmd.Execute())
	for _, text := range []string{
		"To try it without a cluster", "Metal-api flags:", "Records flags:", "Standalone flags:", "Authentication in a cluster flags:", "--project-binding stringArray", "--version ",
	} {
		assert.Contains(t, out.String(), text)
	}
}

func TestCommand_RefusesMissingFlagsBeforeItWritesAnything(t *testing.T) {
	t.Setenv("METAL_API_HMAC", "")
	dir := t.TempDir() + "/data"
	cmd := newCommand(context.Background())
	cmd.SetArgs([]string{"--standalone", "--data-dir", dir})
	err := cmd.Execute()
	require.ErrorContains(t, err, "--metal-api-url")
	assert.ErrorContains(t, err, "--metal-api-hmac-file")
	assert.NoDirExists(t, dir)
}

func TestCommand_PrintsItsVersion(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	cmd := newCommand(t.Context())
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--version"})
	require.NoError(t, cmd.Execute())
	assert.Regexp(t, `^metalstack-apiserver \S+ \(commit \S+, go1\.\S+\)\n$`, out.String())
}
