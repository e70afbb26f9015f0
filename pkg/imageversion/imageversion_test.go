// SPDX-License-Identifier: Apache-2.0

package imageversion

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMayAllow_RefusesOnlyWhatIsUnderstood(t *testing.T) {
	t.Parallel()
	os, version, ok := Parse("ubuntu-24.04.20260101")
	require.True(t, ok)
	assert.Equal(t, "ubuntu", os)
	for constraint, allowed := range map[string]bool{
		"*": true, ">= 24.04": true, "< 24.04": false, "22.04 || 24.04": true, ">= 22.04, < 24.04": false, "~22.04": true,
	} {
		assert.Equal(t, allowed, MayAllow(constraint, version), constraint)
	}
	_, _, ok = Parse("ubuntu")
	assert.False(t, ok)
}
