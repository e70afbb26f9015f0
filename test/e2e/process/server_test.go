// SPDX-License-Identifier: Apache-2.0

// Package process holds what only real processes can show: what survives
// kill -9.
package process

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/test/framework/standalone"
)

func TestMain(m *testing.M) { os.Exit(standalone.Main(m)) }

func clientOf(t *testing.T, s *standalone.Server) versioned.Interface {
	t.Helper()
	c, err := versioned.NewForConfig(s.Config())
	require.NoError(t, err)
	return c
}
