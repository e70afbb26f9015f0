// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/test/framework/build"
)

// holdEnv makes the test binary start a control plane, print the ids of its
// processes, and wait to be killed.
const holdEnv = "CONTROLPLANE_TEST_HOLD"

func hold() int {
	endOnSignal()
	c, err := run(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, p := range c.processes() {
		fmt.Println(p.cmd.Process.Pid)
	}
	fmt.Println("ready")
	select {}
}

func TestKilledTestProcess_LeavesNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ties the life of processes together")
	}
	t.Parallel()
	holder, _, pids := startHolder(t)
	require.NoError(t, holder.Process.Kill())
	require.Error(t, holder.Wait())
	eventually(t, func() error {
		for _, pid := range pids {
			if alive(pid) {
				return fmt.Errorf("process %s is still alive", pid)
			}
		}
		return nil
	})
}

// The programs are reaped, and the files removed, which a killed process cannot do.
func TestTerminatedTestProcess_LeavesNeitherZombiesNorFiles(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux says whose child a process is")
	}
	t.Parallel()
	holder, dir, pids := startHolder(t)
	require.NoError(t, holder.Process.Signal(syscall.SIGTERM))
	require.Error(t, holder.Wait())
	for _, pid := range pids {
		require.NoDirExists(t, filepath.Join("/proc", pid))
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// startHolder starts a process that holds a control plane, whose files are in dir.
func startHolder(t *testing.T) (holder *exec.Cmd, dir string, pids []string) {
	t.Helper()
	// Not the test's own: what is killed cannot remove its files.
	dir, err := os.MkdirTemp("", "held-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	holder = exec.CommandContext(t.Context(), os.Args[0])
	holder.Env = append(os.Environ(), holdEnv+"=1", "TMPDIR="+dir)
	holder.Stderr = os.Stderr
	output, err := holder.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	for lines := bufio.NewScanner(output); lines.Scan() && lines.Text() != "ready"; {
		pids = append(pids, lines.Text())
	}
	require.Len(t, pids, 3)
	for _, pid := range pids {
		require.True(t, alive(pid), pid)
		t.Cleanup(func() {
			if number, err := strconv.Atoi(pid); err == nil && alive(pid) {
				_ = syscall.Kill(number, syscall.SIGKILL)
			}
		})
	}
	return holder, dir, pids
}

// alive reports whether a process exists that is not only waiting to be reaped.
func alive(pid string) bool {
	command, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
	return err == nil && len(command) > 0
}

func TestStart_FailureNamesCauseAndLeavesNothing(t *testing.T) {
	t.Parallel()
	c := &ControlPlane{bin: binaries()}
	WithAPIServerFlags("--no-such-flag")(&c.options)
	err := c.start(t.Context())
	require.ErrorIs(t, err, errEnded)
	require.ErrorContains(t, err, "kube-apiserver ended by itself: exit status 1")
	require.ErrorContains(t, err, "unknown flag: --no-such-flag")
	processes := c.processes()
	require.Len(t, processes, 2)
	c.stop()
	for _, p := range processes {
		require.False(t, alive(strconv.Itoa(p.cmd.Process.Pid)), p.name)
	}
	require.NoDirExists(t, c.dir)
}

func TestPrograms_MissingAreNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, etcdProgram), nil, 0o700))
	_, err := programs(dir)
	require.ErrorContains(t, err, "no kube-apiserver, kube-controller-manager, kubectl; build it with: make controlplane")
}

func TestKubectl_GetsInputAndEnvironment(t *testing.T) {
	t.Parallel()
	c := StartShared(t)
	namespace := newNamespace(t, c)
	create := c.KubectlCommand(t.Context(), c.Admin(), "create", "-n", namespace, "-f", "-")
	create.Stdin = strings.NewReader(`{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "piped"}, "data": {"word": "before"}}`)
	out, err := create.CombinedOutput()
	require.NoError(t, err, string(out))
	edit := c.KubectlCommand(t.Context(), c.Admin(), "edit", "-n", namespace, "configmap", "piped")
	edit.Env = append(edit.Env, "KUBE_EDITOR=sed -i s/before/after/")
	out, err = edit.CombinedOutput()
	require.NoError(t, err, string(out))
	stdout, stderr, err := c.Kubectl(t, c.Admin(), "get", "-n", namespace, "configmap", "piped", "-o", "jsonpath={.data.word}")
	require.NoError(t, err, stderr)
	require.Equal(t, "after", stdout)
}

func TestPrograms_EnvironmentNamesAnotherDirectory(t *testing.T) {
	t.Setenv(BinEnv, filepath.Join("bin", "compat", "v1.0"))
	_, err := Run(t.Context())
	require.ErrorContains(t, err, filepath.Join(build.Root(), "bin", "compat", "v1.0")+": no etcd, kube-apiserver, kube-controller-manager, kubectl")
	absolute := t.TempDir()
	t.Setenv(BinEnv, absolute)
	_, err = Run(t.Context())
	require.ErrorContains(t, err, absolute+": no etcd")
}
