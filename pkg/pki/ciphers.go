package pki

import (
	"crypto/tls"
	"slices"
	"strings"
)

// CipherSuites are those to offer for TLS 1.2: the ones that Go holds for
// secure, except for those with CBC, which have had padding oracles. The ones
// of TLS 1.3 cannot be chosen.
func CipherSuites() []*tls.CipherSuite {
	return slices.DeleteFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool {
		return !slices.Contains(s.SupportedVersions, tls.VersionTLS12) || strings.Contains(s.Name, "_CBC_")
	})
}
