// SPDX-License-Identifier: Apache-2.0

package options

import (
	"crypto/tls"

	"metal-stack.io/infrastructure-apiserver/pkg/pki"
)

// restrictTLS configures the metrics endpoint: without CBC cipher suites, and
// without HTTP/2. A scraper sends one request at a time, and with HTTP/2 a
// client without credentials could have any number of tokens reviewed at once.
func restrictTLS(config *tls.Config) {
	config.CipherSuites = nil
	for _, suite := range pki.CipherSuites() {
		config.CipherSuites = append(config.CipherSuites, suite.ID)
	}
	config.NextProtos = []string{"http/1.1"}
}
