// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// dieWithUs makes the kernel kill the program if we die without stopping it.
func dieWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// checkStopped returns an error while a thread of a process still runs after
// SIGSTOP, which returns before the threads have stopped.
func checkStopped(pid int) error {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return err
	}
	if len(stats) == 0 {
		return fmt.Errorf("process %d has no threads", pid)
	}
	for _, file := range stats {
		// The state follows the command, which is in parentheses.
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if i := bytes.LastIndexByte(content, ')'); i < 0 || i+2 >= len(content) || content[i+2] != 'T' {
			return fmt.Errorf("a thread still runs: %s", content)
		}
	}
	return nil
}
