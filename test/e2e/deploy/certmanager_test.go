// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"

	"metal-stack.io/infrastructure-apiserver/pkg/pki"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// issued is what cert-manager writes into a Certificate's Secret, signed by an
// authority that is new each time.
func issued(t *testing.T, certificate *unstructured.Unstructured) map[string][]byte {
	t.Helper()
	names, _, err := unstructured.NestedStringSlice(certificate.Object, "spec", "dnsNames")
	require.NoError(t, err)
	authority, err := pki.NewAuthority("an-issuer", time.Now(), 24*time.Hour)
	require.NoError(t, err)
	leaf, err := pki.ServingCertificate(authority, "a-leaf", names, time.Now(), 24*time.Hour)
	require.NoError(t, err)
	return map[string][]byte{"ca.crt": authority.Certificate, "tls.crt": leaf.Certificate, "tls.key": leaf.Key}
}

// shown is the certificate that a server shows.
func shown(t *testing.T, url string) *x509.Certificate {
	t.Helper()
	dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	connection, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(url, "https://"))
	require.NoError(t, err)
	defer connection.Close()
	return connection.(*tls.Conn).ConnectionState().PeerCertificates[0]
}

func TestCertManager_LeavesTheServerNoRightToSecrets(t *testing.T) {
	t.Parallel()
	plane := controlplane.StartShared(t)
	for variant, writes := range map[string]bool{"base": true, "cert-manager": false, "both": false} {
		role := &rbacv1.Role{}
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(find(t, render(t, plane, variant), "Role", cluster.APIServer).Object, role, true))
		has := slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, "secrets") })
		assert.Equal(t, writes, has, variant)
		assert.Equal(t, []string{"configmaps"}, role.Rules[0].Resources, variant)
	}
}

func TestCertManager_CertificateIsServedThroughNewAuthority(t *testing.T) {
	t.Parallel()
	plane := controlplane.StartShared(t)
	overlay := cluster.Overlay(t, "cert-manager")
	objects := render(t, plane, "cert-manager")
	prepare(t, plane, objects)
	c := cluster.Start(t, cluster.Options{ControlPlane: plane, Overlay: overlay, Servers: -1})

	certificate := find(t, objects, "Certificate", "metalstack-apiserver-tls")
	name, _, err := unstructured.NestedString(certificate.Object, "spec", "secretName")
	require.NoError(t, err)
	first := issued(t, certificate)
	_, err = plane.Client().CoreV1().Secrets(cluster.Namespace).Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Type: corev1.SecretTypeTLS, Data: first,
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	server := c.StartServer(t)
	server.AwaitReady(t)
	c.AwaitAvailable(t)
	wanted, _, err := pki.Pair{Certificate: first["tls.crt"], Key: first["tls.key"]}.Parse()
	require.NoError(t, err)
	assert.True(t, wanted.Equal(shown(t, server.URL)))
	_, err = plane.Client().CoreV1().Secrets(cluster.Namespace).Get(t.Context(), "metalstack-apiserver-serving", metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err), "the server makes no certificate of its own: %v", err)

	// As the kubelet does when the Secret has changed.
	second := issued(t, certificate)
	for file, content := range second {
		path := filepath.Join(server.Mounts, file)
		require.NoError(t, os.WriteFile(path+".new", content, 0o600))
		require.NoError(t, os.Rename(path+".new", path))
	}
	wanted, _, err = pki.Pair{Certificate: second["tls.crt"], Key: second["tls.key"]}.Parse()
	require.NoError(t, err)
	client, err := dynamic.NewForConfig(plane.Admin())
	require.NoError(t, err)
	for _, version := range cluster.Versions {
		require.Eventually(t, func() bool {
			service, err := client.Resource(controlplane.APIServices).Get(t.Context(), version.Version+"."+version.Group, metav1.GetOptions{})
			if err != nil {
				return false
			}
			bundle, _, _ := unstructured.NestedString(service.Object, "spec", "caBundle")
			return bundle == base64.StdEncoding.EncodeToString(second["ca.crt"])
		}, time.Minute, 50*time.Millisecond, "the APIServices follow")
	}
	require.Eventually(t, func() bool { return wanted.Equal(shown(t, server.URL)) }, time.Minute, 50*time.Millisecond)
	require.Eventually(t, func() bool {
		_, err := c.Metalstack(t, plane.Admin()).InfrastructureV1alpha4().MetalStackMachines("default").List(t.Context(), metav1.ListOptions{})
		return err == nil
	}, time.Minute, 100*time.Millisecond, "and the kube-apiserver passes requests on")
}
