// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMeansImage_VersionsOfAlias(t *testing.T) {
	t.Parallel()
	const id = "firewall-ubuntu-24.04.20260101"
	for _, name := range []string{id, "firewall-ubuntu-24.04", "firewall-ubuntu-24.4", "firewall-ubuntu-24.04.0"} {
		require.True(t, MeansImage(name, id), name)
	}
	for _, name := range []string{
		"firewall-ubuntu-24.04.20250101", "firewall-ubuntu-24", "firewall-ubuntu-2", "firewall-ubuntu-24.05", "ubuntu-24.04",
		"firewall-ubuntu", "firewall-ubuntu-24.04.20260101.1", "firewall-ubuntu-24.04.", "", "-",
	} {
		require.False(t, MeansImage(name, id), name)
	}
	require.True(t, MeansImage("custom", "custom"), "an id of another form is compared as it is")
	require.False(t, MeansImage("custom", "custom-1.0.1"))
}
