// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestGarbageCollector_DeletesDependents(t *testing.T) {
	t.Parallel()
	c := StartShared(t)
	maps := c.Client().CoreV1().ConfigMaps(newNamespace(t, c))
	owner := newConfigMap(t, maps, "owner")
	dependent := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "dependent", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID},
	}}}
	_, err := maps.Create(t.Context(), dependent, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, maps.Delete(t.Context(), owner.Name, metav1.DeleteOptions{}))
	eventually(t, func() error { return gone(maps.Get(t.Context(), dependent.Name, metav1.GetOptions{})) })
}

func TestNamespace_IsDeleted(t *testing.T) {
	t.Parallel()
	c := StartShared(t)
	name := newNamespace(t, c)
	newConfigMap(t, c.Client().CoreV1().ConfigMaps(name), "content")
	_, stderr, err := c.Kubectl(t, c.Admin(), "delete", "namespace", name, "--wait", "--timeout=1m")
	require.NoError(t, err, stderr)
	require.NoError(t, gone(c.Client().CoreV1().Namespaces().Get(t.Context(), name, metav1.GetOptions{})))
}

func TestQuota_IsKept(t *testing.T) {
	t.Parallel()
	c := StartShared(t)
	namespace := newNamespace(t, c)
	quotas := c.Client().CoreV1().ResourceQuotas(namespace)
	_, err := quotas.Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "few"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/secrets": resource.MustParse("1")}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	eventually(t, func() error {
		quota, err := quotas.Get(t.Context(), "few", metav1.GetOptions{})
		if err == nil && len(quota.Status.Used) == 0 {
			err = errors.New("not counted yet")
		}
		return err
	})
	secrets := c.Client().CoreV1().Secrets(namespace)
	create := func(name string) error {
		_, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		return err
	}
	require.NoError(t, create("first"))
	require.ErrorContains(t, create("second"), "exceeded quota")
}

// gone is no error if what was asked for does not exist.
func gone[T any](_ T, err error) error {
	switch {
	case err == nil:
		return errors.New("is still there")
	case apierrors.IsNotFound(err):
		return nil
	default:
		return err
	}
}
