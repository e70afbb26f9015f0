// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	metalgo "github.com/metal-stack/metal-go"
	"github.com/metal-stack/metal-go/api/client/machine"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

func TestCommand_ServesMetalGoUntilItIsStopped(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	r, w := io.Pipe()
	cmd := command(w)
	cmd.SetArgs([]string{"--machines=8", "--speed=0", "--log-calls"})
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()

	vars := map[string]string{}
	lines := bufio.NewScanner(r)
	for len(vars) < 2 && lines.Scan() {
		k, v, _ := strings.Cut(lines.Text(), "=")
		vars[k] = v
	}
	require.True(t, strings.HasSuffix(vars["METAL_API_URL"], "/metal"), vars)

	c, err := metalgo.NewClient(vars["METAL_API_URL"], metalgo.HMACAuth(simulator.DefaultHMAC.View, "Metal-View"))
	require.NoError(t, err)
	ms, err := c.Machine().ListMachines(machine.NewListMachinesParams(), nil)
	require.NoError(t, err)
	require.Len(t, ms.Payload, 8)

	help, err := http.Get(vars["METAL_API_ADMIN_URL"] + "/")
	require.NoError(t, err)
	text, err := io.ReadAll(help.Body)
	require.NoError(t, err)
	require.NoError(t, help.Body.Close())
	require.Contains(t, string(text), "curl -X POST "+vars["METAL_API_ADMIN_URL"]+"/faults")

	stop()
	require.NoError(t, <-ended)
}

func TestCommand_PrintsItsVersion(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	cmd := command(io.Discard)
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--version"})
	require.NoError(t, cmd.Execute())
	require.Regexp(t, `^metal-api-simulator \S+ \(commit \S+, go1\.\S+\)\n$`, out.String())
}
