// SPDX-License-Identifier: Apache-2.0

package outage_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const things = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: things.example.com
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Thing, plural: things, singular: thing}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          color: {type: string, description: what color the thing has}
`

func TestServerOutage_HarmsNoOtherKind(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	ours := env.client.InfrastructureV1alpha4()
	maps := env.Client().CoreV1().ConfigMaps(env.team.Namespace)
	_, err := ours.MetalStackMachines(env.team.Namespace).Create(ctx, objects.Machine("node-1", objects.InDefaultPartition), metav1.CreateOptions{})
	require.NoError(t, err)
	owner, err := ours.MetalStackMachineTemplates(env.team.Namespace).Create(ctx, objects.MachineTemplate("owner"), metav1.CreateOptions{})
	require.NoError(t, err)
	require.Contains(t, env.kubectl("get", "msm"), "node-1", "and kubectl knows the kind now")
	resources := env.kubectl("api-resources", "-o=name")
	documented := env.documented()

	env.Servers[0].Kill()
	for _, version := range cluster.Versions {
		env.WaitAvailable(t, version, false)
	}

	t.Run("OwnKinds_AreUnavailableNotUnknownOrEmpty", func(t *testing.T) {
		o := env.run(env.home, "", "get", "msm")
		require.NotZero(t, o.code)
		require.Empty(t, o.stdout)
		require.Contains(t, o.stderr, "ServiceUnavailable")
		_, err := ours.MetalStackMachines(env.team.Namespace).Get(ctx, "node-1", metav1.GetOptions{})
		require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	})
	t.Run("OtherKinds_AreListedAndDocumented", func(t *testing.T) {
		// For a while the kube-apiserver goes by what it has discovered before.
		var o outcome
		env.eventually(func(context.Context) error {
			o = env.run(t.TempDir(), "", "api-resources", "-o=name")
			if strings.Contains(o.stdout, group) {
				return errors.New("ours are still listed")
			}
			return nil
		})
		require.Zero(t, o.code, o.stderr)
		for _, name := range []string{"configmaps", "deployments.apps", "customresourcedefinitions.apiextensions.k8s.io", "roles.rbac.authorization.k8s.io"} {
			require.Contains(t, resources, name+"\n")
			require.Contains(t, o.stdout, name+"\n")
		}
		now := env.documented()
		for path := range documented {
			require.Contains(t, now, path)
		}
		require.Contains(t, env.kubectl("explain", "deployment.spec.replicas"), "Number of desired pods")
		require.Contains(t, env.kubectl("explain", "configmap.data", "--output=plaintext-openapiv2"), "configuration data")
	})
	t.Run("OtherKinds_Work", func(t *testing.T) {
		const manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: theirs}\ndata: {a: b}\n"
		env.kubectlIn(manifest, "apply", "--validate=strict", "-f", "-")
		env.kubectlIn(manifest, "apply", "--server-side", "--force-conflicts", "-f", "-")
		require.Contains(t, env.run(env.home, manifest+"date: {}\n", "apply", "--validate=strict", "-f", "-").stderr, `unknown field "date"`)
		require.Contains(t, env.kubectl("describe", "configmap", "theirs"), "Name:         theirs")
		env.kubectl("delete", "configmap", "theirs")
	})
	t.Run("NewKinds_AreServedAndDocumented", func(t *testing.T) {
		env.kubectlIn(things, "apply", "-f", "-")
		env.kubectl("wait", "--for=condition=Established", "crd/things.example.com", "--timeout=1m")
		env.eventually(func(context.Context) error {
			if o := env.run(t.TempDir(), "", "explain", "thing.color"); o.code != 0 {
				return errors.New(o.stderr)
			}
			return nil
		})
		o := env.run(t.TempDir(), "apiVersion: example.com/v1\nkind: Thing\nmetadata: {name: a}\ncolor: red\n", "create", "-f", "-")
		require.Zero(t, o.code, o.stderr)
	})
	t.Run("OtherKinds_GarbageIsCollectedAndQuotaIsKept", func(t *testing.T) {
		parent, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "parent"}}, metav1.CreateOptions{})
		require.NoError(t, err)
		env.newMap("child", metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: parent.Name, UID: parent.UID})
		require.NoError(t, maps.Delete(ctx, "parent", metav1.DeleteOptions{}))
		gone(env, maps.Get, "child")
		_, err = env.Client().CoreV1().ResourceQuotas(env.team.Namespace).Create(ctx, &corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Name: "none"},
			Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"count/secrets": resource.MustParse("0")}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		env.eventually(func(ctx context.Context) error {
			_, err := env.Client().CoreV1().Secrets(env.team.Namespace).Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{GenerateName: "x-"}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err == nil || !apierrors.IsForbidden(err) {
				return fmt.Errorf("want a refusal, got: %v", err)
			}
			return nil
		})
	})
	// An owner that is away is not gone. The second one has never been.
	kind := v1alpha4.SchemeGroupVersion.WithKind("MetalStackMachineTemplate")
	reference := metav1.OwnerReference{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind, Name: owner.Name, UID: owner.UID}
	env.newMap("owned", reference)
	reference.Name, reference.UID = "never-was", types.UID("1c2e9b1e-0000-4000-8000-000000000001")
	env.newMap("orphan", reference)
	t.Run("DeletedNamespace_Waits", func(t *testing.T) {
		_, err := env.Client().CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "unrelated"}}, metav1.CreateOptions{})
		require.NoError(t, err)
		require.NoError(t, env.Client().CoreV1().Namespaces().Delete(ctx, "unrelated", metav1.DeleteOptions{}))
		env.eventually(func(ctx context.Context) error {
			namespace, err := env.Client().CoreV1().Namespaces().Get(ctx, "unrelated", metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, c := range namespace.Status.Conditions {
				if c.Type == corev1.NamespaceDeletionDiscoveryFailure && c.Status == corev1.ConditionTrue {
					return nil
				}
			}
			return fmt.Errorf("nothing is said of why: %v", namespace.Status.Conditions)
		})
	})
	_, err = maps.Get(ctx, "owned", metav1.GetOptions{})
	require.NoError(t, err)
	_, err = maps.Get(ctx, "orphan", metav1.GetOptions{})
	require.NoError(t, err, "an object whose owner cannot be looked up must not be deleted")

	env.Servers[0].Start(t)
	env.Servers[0].AwaitReady(t)
	env.AwaitAvailable(t)
	require.Contains(t, env.kubectl("get", "msm"), "node-1", "it is as if nothing had been")
	o := env.run(t.TempDir(), "", "api-resources", "-o=name")
	require.Zero(t, o.code, o.stderr)
	require.Contains(t, o.stdout, "metalstackmachines."+group)
	env.eventually(func(context.Context) error {
		if o := env.run(t.TempDir(), "", "explain", "msm.spec"); o.code != 0 {
			return errors.New(o.stderr)
		}
		return nil
	})
	gone(env, env.Client().CoreV1().Namespaces().Get, "unrelated")
	gone(env, maps.Get, "orphan")
	_, err = maps.Get(ctx, "owned", metav1.GetOptions{})
	require.NoError(t, err, "its owner is there")
}

// documented are the paths below which the kube-apiserver has OpenAPI version
// 3; version 2 must be whole.
func (env *environment) documented() map[string]any {
	env.t.Helper()
	var whole struct{ Definitions map[string]any }
	require.NoError(env.t, json.Unmarshal([]byte(env.kubectl("get", "--raw", "/openapi/v2")), &whole))
	require.Contains(env.t, whole.Definitions, "io.k8s.api.apps.v1.Deployment")
	var index struct{ Paths map[string]any }
	require.NoError(env.t, json.Unmarshal([]byte(env.kubectl("get", "--raw", "/openapi/v3")), &index))
	for path := range index.Paths {
		if path == "apis/"+group+"/v1alpha3" || path == "apis/"+group+"/v1alpha4" {
			delete(index.Paths, path)
		}
	}
	require.Contains(env.t, index.Paths, "apis/apps/v1")
	return index.Paths
}

func (env *environment) newMap(name string, owners ...metav1.OwnerReference) {
	env.t.Helper()
	_, err := env.Client().CoreV1().ConfigMaps(env.team.Namespace).Create(env.t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: owners}}, metav1.CreateOptions{})
	require.NoError(env.t, err)
}
