// SPDX-License-Identifier: Apache-2.0

package floods

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

const (
	otherTeam = "team-b"
	neighbour = "nora"
	// operationsPerMinute is the limit of one object.
	operationsPerMinute = 10
)

// powerRequests: a tenant asks for power actions of a machine without end, and another
// tenant operates one meanwhile.
func (env *environment) powerRequests(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	env.Bind(t, otherTeam, simulator.ProjectB)
	_, err := env.Client().RbacV1().RoleBindings(otherTeam).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: neighbour},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "metalstack-operator"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: neighbour}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	for _, namespace := range []string{team, otherTeam} {
		env.allocateMachine(ctx, t, namespace)
	}
	mallory := env.Metalstack(t, env.User(other)).InfrastructureV1alpha4().MetalStackMachines(team)
	nora := env.Metalstack(t, env.User(neighbour)).InfrastructureV1alpha4().MetalStackMachines(otherTeam)
	framework.Eventually(t, patience, func(ctx context.Context) error {
		_, err := nora.GetPower(ctx, "operated", metav1.GetOptions{})
		return err
	})

	var sent, refused, requests atomic.Int64
	began := time.Now()
	env.served(t, func(enough <-chan struct{}) {
		flooding, stop := floodContext(t, floodFor/2, enough, func() bool { return refused.Load() > 0 })
		defer stop()
		var all sync.WaitGroup
		for range connections {
			all.Go(func() {
				for flooding.Err() == nil {
					err := requestPower(flooding, mallory, strconv.FormatInt(requests.Add(1), 10))
					switch {
					case err == nil:
						sent.Add(1)
					case apierrors.IsTooManyRequests(err), apierrors.IsConflict(err):
						refused.Add(1)
					case flooding.Err() == nil:
						t.Errorf("a flooding client is answered: %v", err)
					}
				}
			})
		}
		for i := range 3 {
			began := time.Now()
			// The clients' own retries wait for what a 429 of the kube-apiserver asks for.
			assert.NoError(t, requestPower(ctx, nora, fmt.Sprintf("n%d", i)), "the other tenant operates")
			_, err := nora.GetPower(ctx, "operated", metav1.GetOptions{})
			assert.NoError(t, err)
			t.Logf("the other tenant's requests took %s", time.Since(began))
		}
		all.Wait()
	})
	t.Logf("%d power requests of the flood were sent, %d refused", sent.Load(), refused.Load())
	assert.Positive(t, refused.Load())
	assert.LessOrEqual(t, sent.Load(), int64(operationsPerMinute*(1+time.Since(began).Minutes())+2))
}

// requestPower asks once, for a request of its own.
func requestPower(ctx context.Context, machines typed.MetalStackMachineInterface, id string) error {
	body := &v1alpha4.MachinePower{Spec: v1alpha4.MachinePowerSpec{Action: v1alpha4.PowerOn, RequestID: id}}
	_, err := machines.RequestPower(ctx, "operated", body, metav1.CreateOptions{})
	return err
}

// allocateMachine allocates a machine in a namespace.
func (env *environment) allocateMachine(ctx context.Context, t *testing.T, namespace string) {
	t.Helper()
	admin := env.Metalstack(t, env.Admin()).InfrastructureV1alpha4()
	_, err := admin.MetalStackClusters(namespace).Create(ctx, objects.Cluster("operated"), metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = admin.MetalStackClusters(namespace).Allocate(ctx, "operated", &v1alpha4.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = admin.MetalStackMachines(namespace).Create(ctx, objects.Machine("operated"), metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = admin.MetalStackMachines(namespace).Allocate(ctx, "operated", &v1alpha4.Allocation{ClusterRef: &v1alpha4.LocalReference{Name: "operated"}}, metav1.CreateOptions{})
	require.NoError(t, err)
}
