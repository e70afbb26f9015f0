// SPDX-License-Identifier: Apache-2.0

package main

import "syscall"

const diesWithUs = true

// dieWithUs makes the kernel kill the child if we die without stopping it.
func dieWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
