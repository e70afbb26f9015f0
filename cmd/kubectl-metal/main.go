// SPDX-License-Identifier: Apache-2.0

// Command kubectl-metal is a plugin of kubectl that operates machines and firewalls of
// metal-stack.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"metal-stack.io/infrastructure-apiserver/pkg/kubectl"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(kubectl.Run(ctx, os.Args[1:], kubectl.Standard()))
}
