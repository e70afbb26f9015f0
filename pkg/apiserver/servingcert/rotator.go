// SPDX-License-Identifier: Apache-2.0

// Package servingcert rotates the serving certificate of a server in a cluster, and
// the CA that signs it. Both are in one Secret, which all replicas share. It generates
// what is missing and renews what is about to expire, early enough for all clients to
// trust a new CA before a certificate of it is served. It must never write a key
// anywhere else.
package servingcert

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/util/retry"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

const (
	// SecretName is the name of the Secret.
	SecretName = "metalstack-apiserver-serving"
	// FieldManager owns what this package writes.
	FieldManager = "metalstack-apiserver-certificates"

	// interval is how often the Secret is read: a certificate that another replica has
	// renewed is served here that much later.
	interval = 10 * time.Second
	// callTimeout is how long a request to the cluster may take.
	callTimeout = 10 * time.Second
)

// Rotator rotates the certificate. The generic server runs it as its certificate's
// controller.
type Rotator struct {
	secrets corev1client.SecretInterface
	hosts   []string
	clock   clock.PassiveClock

	mu        sync.Mutex
	current   contents
	listeners []dynamiccertificates.Listener
}

var (
	_ dynamiccertificates.CertKeyContentProvider = &Rotator{}
	_ dynamiccertificates.ControllerRunner       = &Rotator{}
)

// New returns a rotator of a certificate for hosts, in a Secret of secrets' namespace.
// It has no certificate until RunOnce has succeeded.
func New(secrets corev1client.SecretInterface, clock clock.PassiveClock, hosts ...string) *Rotator {
	return &Rotator{secrets: secrets, hosts: hosts, clock: clock}
}

// Name implements dynamiccertificates.CertKeyContentProvider.
func (r *Rotator) Name() string { return "secret " + SecretName }

// CurrentCertKeyContent implements dynamiccertificates.CertKeyContentProvider.
func (r *Rotator) CurrentCertKeyContent() (certificate, key []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current.leaf.Certificate, r.current.leaf.Key
}

// CurrentCABundleContent is the PEM-encoded bundle that clients must trust: the current
// CA and its predecessors.
func (r *Rotator) CurrentCABundleContent() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current.bundle
}

// AddListener implements dynamiccertificates.Notifier.
func (r *Rotator) AddListener(listener dynamiccertificates.Listener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listeners = append(r.listeners, listener)
}

// Run implements dynamiccertificates.ControllerRunner: it rotates the certificate until
// ctx ends.
func (r *Rotator) Run(ctx context.Context, _ int) {
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		if err := r.RunOnce(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Failed to reconcile the serving certificate: continuing with the current one")
		}
	}, interval)
}

// RunOnce implements dynamiccertificates.ControllerRunner: it reads the Secret,
// and writes it if anything in it is missing or about to expire. A Secret that
// has been deleted is written again as it was.
func (r *Rotator) RunOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	// If another replica has changed the Secret since it was read, read it again.
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error { return r.reconcile(ctx) })
	if err != nil {
		return fmt.Errorf("failed to reconcile the serving certificate in Secret %q: %w", SecretName, err)
	}
	return nil
}

func (r *Rotator) reconcile(ctx context.Context) error {
	secret, err := r.secrets.Get(ctx, SecretName, metav1.GetOptions{})
	stored, version := contents{}, ""
	switch {
	case apierrors.IsNotFound(err):
		r.mu.Lock()
		stored = r.current
		r.mu.Unlock()
	case err != nil:
		return err
	default:
		stored, version = contentsOf(secret.Data), secret.ResourceVersion
	}
	wanted, renewed, err := stored.renew(r.hosts, r.clock.Now())
	if err != nil {
		return err
	}
	if version == "" || len(renewed) > 0 {
		if err := r.write(ctx, wanted, version); err != nil {
			return err
		}
		klog.FromContext(ctx).Info("Wrote the serving certificate", "secret", SecretName, "renewed", renewed)
	}
	r.serve(wanted)
	return nil
}

// write replaces the Secret of that version. If there is none yet, two replicas may
// write one each; both use the later one.
func (r *Rotator) write(ctx context.Context, c contents, version string) error {
	secret := applycorev1.Secret(SecretName, "").WithType(corev1.SecretTypeOpaque).WithData(c.data())
	secret.Namespace = nil // that of the client
	if version != "" {
		secret.WithResourceVersion(version)
	}
	_, err := r.secrets.Apply(ctx, secret, metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
	return err
}

func (r *Rotator) serve(c contents) {
	r.mu.Lock()
	changed := !c.equal(r.current)
	r.current = c
	listeners := slices.Clone(r.listeners)
	r.mu.Unlock()
	if changed {
		for _, listener := range listeners {
			listener.Enqueue()
		}
	}
}
