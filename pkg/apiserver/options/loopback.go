// SPDX-License-Identifier: Apache-2.0

package options

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/server/healthz"

	"metal-stack.io/infrastructure-apiserver/pkg/pki"
)

// loopbackLifetime is how long the certificate is valid that the server shows to itself.
const loopbackLifetime = 3 * 365 * 24 * time.Hour

var errLoopbackExpired = errors.New("loopback serving certificate is expired")

// applyServing configures the port, and the client by which the server calls itself. It is
// SecureServingOptionsWithLoopback.ApplyToConfig of k8s.io/apiserver with keys of ECDSA:
// one of RSA takes a third of a second of processor time at each start.
func (o *Options) applyServing(config *server.Config, now func() time.Time) error {
	if err := o.SecureServing.ApplyTo(&config.SecureServing); err != nil || config.SecureServing == nil {
		return err
	}
	began := now()
	authority, err := pki.NewAuthority("loopback", began, loopbackLifetime)
	if err != nil {
		return fmt.Errorf("failed to generate the certificate authority of loopback connections: %w", err)
	}
	const name = server.LoopbackClientServerNameOverride
	pair, err := pki.ServingCertificate(authority, name, []string{name}, began, loopbackLifetime)
	if err != nil {
		return fmt.Errorf("failed to generate the certificate of loopback connections: %w", err)
	}
	certificate, err := dynamiccertificates.NewStaticSNICertKeyContent("loopback", pair.Certificate, pair.Key, name)
	if err != nil {
		return err
	}
	// The first of those with a name is shown.
	serving := config.SecureServing
	serving.SNICerts = append([]dynamiccertificates.SNICertKeyContentProvider{certificate}, serving.SNICerts...)
	if config.LoopbackClientConfig, err = serving.NewLoopbackClientConfig(uuid.New().String(), authority.Certificate); err != nil {
		return err
	}
	check := healthz.NamedCheck("loopback-serving-certificate", func(*http.Request) error {
		if now().After(began.Add(loopbackLifetime)) {
			return errLoopbackExpired
		}
		return nil
	})
	config.AddHealthzChecks(check)
	config.AddLivezChecks(check)
	return nil
}
