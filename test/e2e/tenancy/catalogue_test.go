// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
)

// catalogueAttempts are those of attempts that are about projects, networks and addresses.
func catalogueAttempts() []attempt {
	forbidden, notFound := metav1.StatusReasonForbidden, metav1.StatusReasonNotFound
	shown := func(n int, err error) error {
		if err == nil && n == 0 {
			return apierrors.NewNotFound(api.Resource("any"), "any")
		}
		return done(nil, err)
	}
	networks := func(ctx context.Context, c client, namespace string, opts metav1.ListOptions) error {
		list, err := c.MetalStackNetworks(namespace).List(ctx, opts)
		return shown(len(list.Items), err)
	}
	addresses := func(ctx context.Context, c client, namespace string, opts metav1.ListOptions) error {
		list, err := c.MetalStackIPs(namespace).List(ctx, opts)
		return shown(len(list.Items), err)
	}
	return []attempt{
		{"list their networks", forbidden, func(ctx context.Context, c client, v *target) error {
			return networks(ctx, c, v.namespace, metav1.ListOptions{})
		}},
		{"list their addresses", forbidden, func(ctx context.Context, c client, v *target) error {
			return addresses(ctx, c, v.namespace, metav1.ListOptions{Limit: 1})
		}},
		{"get their network", forbidden, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackNetworks(v.namespace).Get(ctx, v.network, metav1.GetOptions{}))
		}},
		{"get their project", forbidden, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackProjects(v.namespace).Get(ctx, v.project, metav1.GetOptions{}))
		}},
		{"watch their addresses", forbidden, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackIPs(v.namespace).Watch(ctx, metav1.ListOptions{}))
		}},
		{"release their address", forbidden, func(ctx context.Context, c client, v *target) error {
			return done(nil, c.MetalStackIPs(v.namespace).Delete(ctx, v.address, metav1.DeleteOptions{}))
		}},
		{"get their network in one's own namespace", notFound, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackNetworks(own).Get(ctx, v.network, metav1.GetOptions{}))
		}},
		{"get their address in one's own namespace", notFound, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackIPs(own).Get(ctx, v.address, metav1.GetOptions{}))
		}},
		{"get their project in one's own namespace", notFound, func(ctx context.Context, c client, v *target) error {
			return done(c.MetalStackProjects(own).Get(ctx, v.project, metav1.GetOptions{}))
		}},
		{"select their network", notFound, func(ctx context.Context, c client, v *target) error {
			return networks(ctx, c, own, metav1.ListOptions{FieldSelector: "status.networkID=" + v.network})
		}},
		{"select their address", notFound, func(ctx context.Context, c client, v *target) error {
			return addresses(ctx, c, own, metav1.ListOptions{FieldSelector: "status.address=" + v.address})
		}},
		{"select addresses in their network", notFound, func(ctx context.Context, c client, v *target) error {
			return addresses(ctx, c, own, metav1.ListOptions{FieldSelector: "status.networkID=" + v.network})
		}},
	}
}

// catalogueIsTheSameForAll compares what users see who have nothing but logged in.
func catalogueIsTheSameForAll(t *testing.T, env *environment) {
	alice, bob := env.Metalstack(t, env.User("catalogue-alice")).InfrastructureV1alpha4(), env.Metalstack(t, env.User("catalogue-bob")).InfrastructureV1alpha4()
	account := env.Metalstack(t, env.ServiceAccount(t, metav1.NamespaceDefault, "catalogue")).InfrastructureV1alpha4()
	nobody := env.Metalstack(t, rest.AnonymousClientConfig(env.Admin())).InfrastructureV1alpha4()
	framework.Eventually(t, limit, func(ctx context.Context) error {
		one, err := alice.MetalStackPartitions().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		other, err := bob.MetalStackPartitions().List(ctx, metav1.ListOptions{})
		if err == nil && !reflect.DeepEqual(one, other) {
			err = errors.New("users see different sums, or machines were allocated meanwhile")
		}
		return err
	})
	for _, c := range []client{alice, bob, account} {
		partition, err := c.MetalStackPartitions().Get(soon(t), simulator.DefaultPartition, metav1.GetOptions{})
		require.NoError(t, err)
		assert.NotEmpty(t, partition.Status.Capacity)
		_, err = c.MetalStackSizes().Get(soon(t), simulator.SmallSize, metav1.GetOptions{})
		require.NoError(t, err)
		_, err = c.MetalStackImages().List(soon(t), metav1.ListOptions{})
		require.NoError(t, err)
		_, err = c.MetalStackNetworks(own).List(soon(t), metav1.ListOptions{})
		assert.True(t, apierrors.IsForbidden(err), "%v", err)
		_, err = c.MetalStackProjects(metav1.NamespaceAll).List(soon(t), metav1.ListOptions{})
		assert.True(t, apierrors.IsForbidden(err), "%v", err)
	}
	_, err := nobody.MetalStackPartitions().List(soon(t), metav1.ListOptions{})
	assert.True(t, apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err), "%v", err)
	_, err = nobody.MetalStackSizes().Get(soon(t), simulator.SmallSize, metav1.GetOptions{})
	assert.True(t, apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err), "%v", err)
}
