// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"os"
	"testing"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

func TestClusterctl_InstallsEverything(t *testing.T) {
	site := StartSite(t, simulator.Config{Speed: 200, DataCentre: simulator.DefaultDataCentre(24)})
	m := Start(t, Options{Site: site})
	t.Log(m.Clusterctl(t, "get", "providers"))
}
