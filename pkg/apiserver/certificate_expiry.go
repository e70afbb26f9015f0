// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"sync"

	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

var (
	certificateExpiry = metrics.NewGauge(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "serving", Name: "certificate_expiry_timestamp_seconds",
		Help:           "Expiry time of the serving certificate, in seconds since 1970; 0 if it cannot be read.",
		StabilityLevel: metrics.ALPHA,
	})

	registerExpiry sync.Once
)

// certificateExpiryExporter exports the expiry time of a certificate, and updates it on
// renewals.
type certificateExpiryExporter struct {
	certificate dynamiccertificates.CertKeyContentProvider
}

var _ dynamiccertificates.Listener = certificateExpiryExporter{}

// exportCertificateExpiry exports the expiry time of the certificate from now on.
func exportCertificateExpiry(certificate dynamiccertificates.CertKeyContentProvider) {
	registerExpiry.Do(func() { legacyregistry.MustRegister(certificateExpiry) })
	e := certificateExpiryExporter{certificate}
	certificate.AddListener(e)
	e.Enqueue()
}

// Enqueue implements dynamiccertificates.Listener: the certificate has changed.
func (e certificateExpiryExporter) Enqueue() {
	content, _ := e.certificate.CurrentCertKeyContent()
	certificateExpiry.Set(expiresAt(content))
}

// expiresAt is when the first certificate of a chain expires, in seconds since
// 1970, or 0.
func expiresAt(content []byte) float64 {
	certs, err := certutil.ParseCertsPEM(content)
	if err != nil {
		return 0
	}
	return float64(certs[0].NotAfter.Unix())
}
