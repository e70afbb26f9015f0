// SPDX-License-Identifier: Apache-2.0

// Command metalstack-controller-manager reconciles the objects that
// metalstack-apiserver serves: it requests the allocation and the release of metal.
// It is a client of the Kubernetes API only.
package main

import (
	"os"
	_ "time/tzdata" // the time zones of maintenance windows

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json
)

func main() {
	os.Exit(cli.Run(newCommand()))
}
