// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

func TestMain(m *testing.M) {
	if os.Getenv(holdEnv) != "" {
		os.Exit(hold())
	}
	os.Exit(Main(m))
}

// newNamespace makes a namespace for one test.
func newNamespace(t *testing.T, c *ControlPlane) string {
	t.Helper()
	namespace, err := c.Client().CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return namespace.Name
}

// eventually waits until what is asked succeeds.
func eventually(t *testing.T, ask func() error) {
	t.Helper()
	require.NoError(t, poll(t.Context(), startDeadline, func(context.Context) error { return ask() }))
}

func newConfigMap(t *testing.T, maps typedcorev1.ConfigMapInterface, name string) *corev1.ConfigMap {
	t.Helper()
	created, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	return created
}
