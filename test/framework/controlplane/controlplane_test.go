// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func TestStart_ServesStampedVersion(t *testing.T) {
	t.Parallel()
	c := StartShared(t)
	version, err := c.Client().Discovery().ServerVersion()
	require.NoError(t, err)
	require.Regexp(t, `^v1\.\d+\.\d+$`, version.GitVersion, "Cluster API refuses a server without a version")
	stdout, stderr, err := c.Kubectl(t, c.Admin(), "get", "namespaces", "-o", "name")
	require.NoError(t, err, stderr)
	require.Contains(t, stdout, "namespace/kube-system\n")
}

func TestUsers_MayWhatRBACAllows(t *testing.T) {
	t.Parallel()
	c := StartShared(t)
	namespace := newNamespace(t, c)
	who := map[string]struct {
		config  *rest.Config
		subject rbacv1.Subject
	}{
		"user":            {c.User("alice"), rbacv1.Subject{Kind: rbacv1.UserKind, Name: "alice"}},
		"group":           {c.User("bob", "team"), rbacv1.Subject{Kind: rbacv1.GroupKind, Name: "team"}},
		"service account": {c.ServiceAccount(t, namespace, "robot"), rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Name: "robot", Namespace: namespace}},
	}
	for name, w := range who {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, err := kubernetes.NewForConfig(w.config)
			require.NoError(t, err)
			list := func() error {
				_, err := client.CoreV1().ConfigMaps(namespace).List(t.Context(), metav1.ListOptions{})
				return err
			}
			require.True(t, apierrors.IsForbidden(list()), "nothing is allowed at first: %v", list())
			_, err = c.Client().RbacV1().RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{GenerateName: "view-"},
				Subjects:   []rbacv1.Subject{w.subject},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
			}, metav1.CreateOptions{})
			require.NoError(t, err)
			eventually(t, list)
		})
	}
}

func TestMinor_IsThatOfTheProgram(t *testing.T) {
	t.Parallel()
	c := StartShared(t)
	out, err := exec.CommandContext(t.Context(), filepath.Join(binaries(), apiServerProgram), "--version").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), fmt.Sprintf("v1.%d.", c.Minor(t)))
	c.SkipBefore(t, c.Minor(t), "test that is skipped")
	t.Run("older", func(t *testing.T) {
		c.SkipBefore(t, c.Minor(t)+1, "test that runs")
		t.Error("it is not skipped")
	})
}
