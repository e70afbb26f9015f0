// Command metalstack-controller-manager is the companion of
// metalstack-apiserver: it asks for metal when its time has come, and gives it
// back when an object is deleted. It talks to the Kubernetes API alone.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json
)

func main() {
	os.Exit(cli.Run(newCommand()))
}
