// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// injectAnnotation asks cert-manager for the CA bundle of a Certificate.
const injectAnnotation = "cert-manager.io/inject-ca-from"

var (
	definitions  = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	certificates = schema.GroupVersionResource{Group: "cert-manager.io", Version: "v1", Resource: "certificates"}
	webhooks     = []schema.GroupVersionResource{
		{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"},
		{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"},
	}
)

// installCertManager makes clusterctl think that cert-manager is there: its
// kinds are.
func (m *Management) installCertManager(t testing.TB) {
	t.Helper()
	for _, kind := range []string{"Issuer", "Certificate"} {
		plural := map[string]string{"Issuer": "issuers", "Certificate": "certificates"}[kind]
		_, err := m.dynamic.Resource(definitions).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
			"metadata": map[string]any{"name": plural + ".cert-manager.io"},
			"spec": map[string]any{
				"group": "cert-manager.io", "scope": "Namespaced",
				"names": map[string]any{"kind": kind, "listKind": kind + "List", "plural": plural},
				"versions": []any{map[string]any{
					"name": "v1", "served": true, "storage": true,
					"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
				}},
			},
		}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	framework.Eventually(t, time.Minute, func(ctx context.Context) error {
		_, err := m.dynamic.Resource(certificates).List(ctx, metav1.ListOptions{})
		return err
	})
}

// certify does what cert-manager does: a Secret for every Certificate, and its
// CA bundle for all that ask for it.
func (m *Management) certify(t testing.TB) {
	t.Helper()
	list, err := m.dynamic.Resource(certificates).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for _, certificate := range list.Items {
		names, _, err := unstructured.NestedStringSlice(certificate.Object, "spec", "dnsNames")
		require.NoError(t, err)
		secret, _, err := unstructured.NestedString(certificate.Object, "spec", "secretName")
		require.NoError(t, err)
		public, private := m.plane.ServingCertificate(names...)
		_, err = m.plane.Client().CoreV1().Secrets(certificate.GetNamespace()).Create(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: secret}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{"ca.crt": m.plane.CA(), corev1.TLSCertKey: public, corev1.TLSPrivateKeyKey: private},
		}, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			require.NoError(t, err)
		}
	}
	bundle := base64.StdEncoding.EncodeToString(m.plane.CA())
	m.inject(t, m.dynamic.Resource(definitions), func(*unstructured.Unstructured) any {
		return map[string]any{"spec": map[string]any{"conversion": map[string]any{"webhook": map[string]any{"clientConfig": map[string]any{"caBundle": bundle}}}}}
	})
	for _, resource := range webhooks {
		m.inject(t, m.dynamic.Resource(resource), func(obj *unstructured.Unstructured) any {
			hooks, _, err := unstructured.NestedSlice(obj.Object, "webhooks")
			require.NoError(t, err)
			for _, hook := range hooks {
				require.NoError(t, unstructured.SetNestedField(hook.(map[string]any), bundle, "clientConfig", "caBundle"))
			}
			return map[string]any{"webhooks": hooks}
		})
	}
}

// inject patches all objects of a resource that ask for a CA bundle.
func (m *Management) inject(t testing.TB, resource dynamic.ResourceInterface, patch func(*unstructured.Unstructured) any) {
	t.Helper()
	list, err := resource.List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for i := range list.Items {
		obj := &list.Items[i]
		if obj.GetAnnotations()[injectAnnotation] == "" {
			continue
		}
		body, err := json.Marshal(patch(obj))
		require.NoError(t, err)
		_, err = resource.Patch(t.Context(), obj.GetName(), types.MergePatchType, body, metav1.PatchOptions{})
		require.NoError(t, err)
	}
}
