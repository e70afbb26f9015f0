// SPDX-License-Identifier: Apache-2.0

package contract_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/retry"

	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	metalclient "metal-stack.io/infrastructure-apiserver/pkg/metal/client"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const (
	team = testserver.NamespaceA
	// limit is how long anything may take that is waited for.
	limit = time.Minute
)

// environment is a server under test, a client of it, and one of its metal-api.
type environment struct {
	*testserver.Server
	t     *testing.T
	api   typed.InfrastructureV1alpha4Interface
	metal *metalclient.Client
}

func start(t *testing.T) *environment {
	t.Helper()
	return startWith(t, testserver.Options{})
}

func startWith(t *testing.T, opts testserver.Options) *environment {
	t.Helper()
	opts.Simulator.Speed = 400
	s := testserver.Start(t, opts)
	client, err := metalclient.New(metalclient.Options{URL: s.Metal.URL, HMAC: s.Metal.Key("Metal-Edit"), AuthType: metalclient.AuthEdit})
	require.NoError(t, err)
	return &environment{Server: s, t: t, api: s.Client().InfrastructureV1alpha4(), metal: client}
}

// cluster is one with network and address.
func (env *environment) cluster(name string, changes ...func(*v1alpha4.MetalStackCluster)) *v1alpha4.MetalStackCluster {
	env.t.Helper()
	_, err := env.api.MetalStackClusters(team).Create(env.t.Context(), objects.Cluster(name, changes...), metav1.CreateOptions{})
	require.NoError(env.t, err)
	c, err := env.api.MetalStackClusters(team).Allocate(env.t.Context(), name, &v1alpha4.Allocation{}, metav1.CreateOptions{})
	require.NoError(env.t, err)
	return c
}

// setProvisioned has another client say whether a cluster is provisioned, although its metal
// may be observed meanwhile.
func (env *environment) setProvisioned(name string, provisioned *bool) (c *v1alpha4.MetalStackCluster) {
	env.t.Helper()
	clusters := env.api.MetalStackClusters(team)
	require.NoError(env.t, retry.RetryOnConflict(retry.DefaultRetry, func() (err error) {
		c, err = clusters.Get(env.t.Context(), name, metav1.GetOptions{})
		require.NoError(env.t, err)
		c.Status.Initialization.Provisioned = provisioned
		c, err = clusters.UpdateStatus(env.t.Context(), c, metav1.UpdateOptions{})
		return err
	}))
	return c
}

// machine is one of a cluster that has phoned home.
func (env *environment) machine(name, cluster string, changes ...func(*v1alpha4.MetalStackMachine)) *v1alpha4.MetalStackMachine {
	env.t.Helper()
	_, err := env.api.MetalStackMachines(team).Create(env.t.Context(), objects.Machine(name, changes...), metav1.CreateOptions{})
	require.NoError(env.t, err)
	_, err = env.api.MetalStackMachines(team).Allocate(env.t.Context(), name, joins(cluster), metav1.CreateOptions{})
	require.NoError(env.t, err)
	var m *v1alpha4.MetalStackMachine
	require.Eventually(env.t, func() bool {
		m, err = env.api.MetalStackMachines(team).Get(env.t.Context(), name, metav1.GetOptions{})
		return err == nil && m.Status.Ready && m.Status.Initialization.Provisioned != nil
	}, limit, 20*time.Millisecond)
	return m
}

func joins(cluster string) *v1alpha4.Allocation {
	return &v1alpha4.Allocation{ClusterRef: &v1alpha4.LocalReference{Name: cluster}, UserData: []byte("#cloud-config")}
}

// read is an object as Cluster API reads it.
func (env *environment) read(resource, name string) *unstructured.Unstructured {
	env.t.Helper()
	obj, err := env.Dynamic().Resource(v1alpha4.SchemeGroupVersion.WithResource(resource)).Namespace(team).Get(env.t.Context(), name, metav1.GetOptions{})
	require.NoError(env.t, err)
	return obj
}

// at is a field of an object; the test fails if it is missing.
func at[T any](t *testing.T, obj *unstructured.Unstructured, path ...string) T {
	t.Helper()
	value, found, err := unstructured.NestedFieldNoCopy(obj.Object, path...)
	require.NoError(t, err)
	require.True(t, found, "%v is missing", path)
	require.IsType(t, *new(T), value, "%v", path)
	return value.(T)
}

// missing: no object has such a field.
func missing(t *testing.T, obj *unstructured.Unstructured, path ...string) {
	t.Helper()
	value, found, err := unstructured.NestedFieldNoCopy(obj.Object, path...)
	require.NoError(t, err)
	require.False(t, found, "%v is %v", path, value)
}
