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

func TestNewestImages_OfAlias(t *testing.T) {
	t.Parallel()
	expired := &Image{ID: "ubuntu-24.04.20260601"}
	newest := NewNewestImages([]*Image{
		{ID: "ubuntu-24.04.9"}, expired, {ID: "ubuntu-24.04.20260101"}, {ID: "ubuntu-22.04.20270101"},
		{ID: "firewall-ubuntu-24.04.20270101"}, {ID: "custom"}, {ID: "ubuntu-24.04.20270101.1"},
	})
	for name, want := range map[string]string{
		"ubuntu-24.04": expired.ID, "ubuntu-24.4": expired.ID, "ubuntu-24.04.0": expired.ID, "firewall-ubuntu-24.04": "firewall-ubuntu-24.04.20270101",
		"ubuntu-24.04.20260101": "", "ubuntu-24": "", "ubuntu-24.05": "", "custom": "", "": "", "-": "",
	} {
		got := ""
		if i := newest.Of(name); i != nil {
			got = i.ID
		}
		require.Equal(t, want, got, name)
	}
	require.Nil(t, NewestImages(nil).Of("ubuntu-24.04"))
}

func TestNewerImage_ComparesPatchesAsNumbers(t *testing.T) {
	t.Parallel()
	require.True(t, NewerImage("o-1.0.10", "o-1.0.9"))
	for _, other := range []string{"o-1.0.10", "o-1.0.11", "o-1.1.9", "o-2.0.9", "p-1.0.9", "o", ""} {
		require.False(t, NewerImage("o-1.0.10", other), other)
	}
}
