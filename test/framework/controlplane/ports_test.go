// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// portsVariable has the test process take a port instead of running tests: its value is the
// file, and the port.
const portsVariable = "TEST_TAKE_PORT"

func TestFreePort_IsOfOneProcess(t *testing.T) {
	if path := os.Getenv(portsVariable); path != "" {
		port, err := strconv.Atoi(filepath.Ext(path)[1:])
		require.NoError(t, err)
		taken, err := (&portReservations{path: path[:len(path)-len(filepath.Ext(path))]}).take(port)
		require.NoError(t, err)
		fmt.Println("taken:", taken)
		return
	}
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ports")
	other := func(port int) string {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFreePort_IsOfOneProcess$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s.%d", portsVariable, path, port))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	ours := &portReservations{path: path}
	taken, err := ours.take(12345)
	require.NoError(t, err)
	require.True(t, taken)
	taken, err = ours.take(12345)
	require.NoError(t, err)
	require.False(t, taken, "it was taken before")
	require.Contains(t, other(12345), "taken: false")
	require.Contains(t, other(12346), "taken: true")
	taken, err = ours.take(12346)
	require.NoError(t, err)
	require.True(t, taken, "the other process has ended")
}
