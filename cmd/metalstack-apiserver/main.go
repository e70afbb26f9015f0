// SPDX-License-Identifier: Apache-2.0

// Command metalstack-apiserver serves metal-stack's machines, firewalls and
// cluster infrastructures as Kubernetes objects.
package main

import (
	"os"

	"k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/cli"
)

func main() {
	os.Exit(cli.Run(newCommand(server.SetupSignalContext())))
}
