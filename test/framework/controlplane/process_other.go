// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package controlplane

import (
	"syscall"
	"time"
)

func dieWithUs(*syscall.SysProcAttr) {}

func killChildren(time.Duration) {}
