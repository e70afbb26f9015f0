// SPDX-License-Identifier: Apache-2.0

package controlplane

import "syscall"

// dieWithUs makes the kernel kill the program if we die without stopping it.
func dieWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
