// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// firewallWithUserData is firewall f of Cluster c, with all that its allocation needs.
func firewallWithUserData() map[string]client.Object {
	firewall := object(firewalls, "f", of("c"), func(obj client.Object) {
		obj.(*v1alpha4.MetalStackFirewall).Spec.UserData = &v1alpha4.SecretReference{Name: "f-user-data"}
	})
	return map[string]client.Object{
		"cluster": capiCluster(), "infra": infraCluster(), "obj": firewall,
		"secret": firewallSecret(map[string]string{"value": secretData, "format": "ignition"}),
	}
}

func firewallSecret(data map[string]string) *corev1.Secret {
	secret := bootstrapSecret(data)
	secret.Name = "f-user-data"
	return secret
}

func TestAllocate_UsesUserDataOfTheFirewall(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, firewalls, firewallWithUserData())
	h.reconcile("f")
	require.Equal(t, []string{"allocate f"}, h.calls)
	require.Equal(t, secretData, string(h.requests[0].UserData))
	require.Equal(t, "c-infra", h.requests[0].ClusterRef.Name)

	h.clock.Step(cacheSyncDelay)
	h.reconcile("f")
	require.NotContains(t, strings.Join(h.takeEvents(), "\n"), "very-secret")
	written, err := jsonOf(h.get(firewalls, "f"))
	require.NoError(t, err)
	require.NotContains(t, written, "very-secret")
}

func TestAllocate_FirewallWaitsForItsUserData(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		secret client.Object
		reason string
		says   string
	}{
		"no Secret":                       {nil, infrastructure.ReasonWaitingForBootstrapData, "Secret f-user-data, which spec.userData names, not found"},
		"empty Secret":                    {firewallSecret(nil), infrastructure.ReasonBootstrapDataInvalid, `Secret f-user-data has no data for key "value"`},
		"format that no image boots with": {firewallSecret(map[string]string{"value": secretData, "format": "talos"}), infrastructure.ReasonBootstrapDataInvalid, "talos"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := firewallWithUserData()
			objects["secret"] = c.secret
			h := harnessOf(t, firewalls, objects)
			result := h.reconcile("f")
			require.Empty(t, h.calls)
			require.NotZero(t, result.RequeueAfter)
			allocated := condition(h.get(firewalls, "f"), infrastructure.ConditionAllocated)
			require.Equal(t, metav1.ConditionFalse, allocated.Status)
			require.Equal(t, c.reason, allocated.Reason)
			require.Contains(t, allocated.Message, c.says)
			require.NotContains(t, strings.Join(h.takeEvents(), "\n"), "very-secret")

			if c.secret != nil {
				require.NoError(t, h.api.Delete(t.Context(), c.secret))
			}
			require.NoError(t, h.api.Create(t.Context(), firewallSecret(map[string]string{"value": secretData})))
			h.clock.Step(result.RequeueAfter)
			h.reconcile("f")
			require.Equal(t, []string{"allocate f"}, h.calls)
			require.Equal(t, secretData, string(h.requests[0].UserData))
		})
	}
}

func TestAllocate_FirewallWaitsWhileItsSecretMayNotBeRead(t *testing.T) {
	t.Parallel()
	h := harnessOf(t, firewalls, firewallWithUserData())
	h.r.live = interceptor.NewClient(h.api.(client.WithWatch), interceptor.Funcs{
		Get: func(_ context.Context, _ client.WithWatch, key client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
			return apierrors.NewForbidden(corev1.Resource("secrets"), key.Name, errors.New("no RoleBinding"))
		},
	})
	require.Equal(t, inFlightRequeue, h.reconcile("f").RequeueAfter)
	require.Empty(t, h.calls)
	require.Contains(t, condition(h.get(firewalls, "f"), infrastructure.ConditionAllocated).Message, "RoleBinding metalstack-bootstrap-data")
}

// It may be adopted, as after a move; otherwise the server refuses it.
func TestAllocate_FirewallThatNamesItsMachineNeedsNoUserData(t *testing.T) {
	t.Parallel()
	for name, secret := range map[string]client.Object{
		"no Secret":                       nil,
		"empty Secret":                    firewallSecret(nil),
		"format that no image boots with": firewallSecret(map[string]string{"value": secretData, "format": "talos"}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := firewallWithUserData()
			objects["secret"] = secret
			objects["obj"].(*v1alpha4.MetalStackFirewall).Spec.ProviderID = "metal:///e0ab02d2-27cd-5a5e-8efc-080ba80cf258"
			h := harnessOf(t, firewalls, objects)
			h.reconcile("f")
			require.Equal(t, []string{"allocate f"}, h.calls)
			require.Empty(t, h.requests[0].UserData)
		})
	}
}

func TestAllocate_StandaloneFirewallWaitsWhenUserDataIsNamed(t *testing.T) {
	t.Parallel()
	h := newHarness(t, firewalls, true, firewallWithUserData()["obj"], infraCluster(func(obj client.Object) { obj.SetName("c") }))
	h.reconcile("f")
	require.Empty(t, h.calls)
	require.Contains(t, condition(h.get(firewalls, "f"), infrastructure.ConditionAllocated).Message, "spec.userData names a Secret")
}

// The content of a Secret is not in a spec, so a change of it rolls nothing.
func TestPlanRollout_FollowsTheReferenceToUserData(t *testing.T) {
	t.Parallel()
	infra := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	infra.Spec.FirewallSpec.UserData = &v1alpha4.SecretReference{Name: "one"}
	serving := firewallOf(infra, "f", home)
	plan := planRollout(infra, []*v1alpha4.MetalStackFirewall{serving}, rollTime, NewOptions())
	require.Nil(t, plan.create)
	infra.Spec.FirewallSpec.UserData.Name = "two"
	plan = planRollout(infra, []*v1alpha4.MetalStackFirewall{serving}, rollTime, NewOptions())
	require.NotNil(t, plan.create)
	require.Equal(t, "two", plan.create.Spec.UserData.Name)
	require.Empty(t, plan.deletions, "the old one serves until then")
}
