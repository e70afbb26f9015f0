// SPDX-License-Identifier: Apache-2.0

package infrastructure

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNewestImageOf_ReadsNewerImageMessage(t *testing.T) {
	t.Parallel()
	for _, newest := range []string{"firewall-ubuntu-3.0.20260101", `a "quoted" one`, "with spaces"} {
		require.Equal(t, newest, NewestImageOf(NewerImageMessage("firewall-ubuntu-3.0", newest, "e0ab02d2-27cd-5a5e-8efc-080ba80cf258", "firewall-ubuntu-3.0.20250101")))
	}
	for _, message := range []string{"", "Image", `Image "a" is another one`, `Image "a" stands for b now;`} {
		require.Empty(t, NewestImageOf(message))
	}
}
