// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

func TestInstallation_Serves(t *testing.T) {
	t.Parallel()
	Start(t, Options{ControllerManager: true})
}
