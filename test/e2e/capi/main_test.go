// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"os"
	"testing"

	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

// clusters is how many clusters are built in parallel.
const clusters = 5

func TestMain(m *testing.M) {
	framework.SetParallel(clusters)
	os.Exit(cluster.Main(m))
}
