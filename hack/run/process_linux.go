package main

import "syscall"

// dieWithUs makes the kernel stop the child if we die without stopping it.
func dieWithUs(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
