// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/tls"
	"slices"
	"strings"
)

// CipherSuites are the cipher suites for TLS 1.2: those that Go considers secure, except
// for those with CBC, which have had padding oracles. Those of TLS 1.3 are not
// configurable.
func CipherSuites() []*tls.CipherSuite {
	return slices.DeleteFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool {
		return !slices.Contains(s.SupportedVersions, tls.VersionTLS12) || strings.Contains(s.Name, "_CBC_")
	})
}
