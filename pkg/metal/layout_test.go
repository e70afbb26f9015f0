// SPDX-License-Identifier: Apache-2.0

package metal

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLayout_RefusesImagesThatItIsNotFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		versions, image string
		refused         bool
	}{
		{"*", "ubuntu-24.04.20260101", false},
		{"*", "debian-12.0.20260101", true},
		{"*", "firewall-ubuntu-3.0.20260101", true},
		{">= 24.04", "ubuntu-24.04.20260101", false},
		{">= 24.04", "ubuntu-22.04.20260101", true},
		{"> 24.04.20260101", "ubuntu-24.04.20260101", true},
		{"< 24.04", "ubuntu-24.04.20260101", true},
		{">= 20.04, < 24.04", "ubuntu-22.04.20260101", false},
		{">= 20.04, < 24.04", "ubuntu-24.04.20260101", true},
		{"20.04 || 24.04", "ubuntu-24.04.20260101", false},
		{"20.04 || 24.10", "ubuntu-24.04.20260101", true},
		{"!= 24.04", "ubuntu-24.04.20260101", true},
		{"<= 24.04.20260101", "ubuntu-24.04.20260101", false},
		{"~24.04 weird", "ubuntu-22.04.20260101", false}, // not understood
	} {
		l := &Layout{Images: map[string]string{"ubuntu": c.versions}}
		require.Equal(t, c.refused, l.Refuses(c.image), "%q of %q", c.image, c.versions)
	}
	require.False(t, (&Layout{}).Refuses("debian-12.0.20260101"), "a layout that was chosen by its id")
	require.False(t, (&Layout{Images: map[string]string{"ubuntu": "*"}}).Refuses("no version"))
}
