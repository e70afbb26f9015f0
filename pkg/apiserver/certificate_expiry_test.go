// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/pki"
)

func TestCertificateExpiry_IsThatOfTheLeaf(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	authority, err := pki.NewAuthority("authority", now, 1000*time.Hour)
	require.NoError(t, err)
	leaf, err := pki.ServingCertificate(authority, "leaf", []string{"localhost"}, now, 10*time.Hour)
	require.NoError(t, err)
	chain := append(append([]byte{}, leaf.Certificate...), authority.Certificate...)
	assert.InDelta(t, now.Add(10*time.Hour).Unix(), expiresAt(chain), 1)
	assert.Zero(t, expiresAt(nil), "nothing that can be read expires at once")
	assert.Zero(t, expiresAt([]byte("-----BEGIN")))
}
