// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/options"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
)

func TestTLS_OffersNoCBCByDefault(t *testing.T) {
	t.Parallel()
	const cbc = tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA
	handshake := func(s *testserver.Server, config *tls.Config) error {
		config.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.URL, "https://"), config)
		if err == nil {
			conn.Close()
		}
		return err
	}
	usual := testserver.Start(t, testserver.Options{Memory: true})
	require.Error(t, handshake(usual, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{cbc, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}}))
	require.NoError(t, handshake(usual, &tls.Config{MaxVersion: tls.VersionTLS12}))
	require.NoError(t, handshake(usual, &tls.Config{MinVersion: tls.VersionTLS13}))
	configured := testserver.Start(t, testserver.Options{Memory: true, Flags: func(o *options.Options) {
		flags := o.Flags().FlagSets["serving"]
		require.NoError(t, flags.Parse([]string{"--tls-cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}))
	}})
	require.NoError(t, handshake(configured, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{cbc}}))
	require.Error(t, handshake(configured, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}}))
}
