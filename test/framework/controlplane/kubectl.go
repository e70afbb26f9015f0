// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// kubectlDeadline ends a kubectl that does not end by itself.
const kubectlDeadline = 2 * time.Minute

// Kubectl runs kubectl as the user of config. The error is that of the exit
// code.
func (c *ControlPlane) Kubectl(t testing.TB, config *rest.Config, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), kubectlDeadline)
	defer cancel()
	cmd := c.KubectlCommand(ctx, config, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// KubectlCommand is a kubectl that is yet to be started, for whoever wants to
// write to it, read from it while it runs, or set more of its environment. It
// begins with an empty discovery cache, and is killed when the context ends.
func (c *ControlPlane) KubectlCommand(ctx context.Context, config *rest.Config, args ...string) *exec.Cmd {
	home, err := os.MkdirTemp(c.dir, "kubectl-")
	must(err)
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, kubectlProgram), args...)
	cmd.Env = []string{
		"HOME=" + home,
		"PATH=" + os.Getenv("PATH"),
		"KUBECONFIG=" + c.Kubeconfig(config),
	}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}
