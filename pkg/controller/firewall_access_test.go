// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const (
	firewallAccount = accessCluster + "-firewall-controller"
	firewallToken   = accessCluster + "-firewall-controller-token"
)

// withController is a cluster whose firewalls have firewall-controllers.
func withController(obj client.Object) {
	c := obj.(*v1alpha4.MetalStackCluster)
	c.Spec.MetalAPIAccess = nil
	c.Spec.FirewallSpec = &v1alpha4.MetalStackFirewallSpec{Image: "firewall", MachineType: "small", Controller: &v1alpha4.FirewallController{}}
}

func newFirewallAccessHarness(t *testing.T, changes ...func(client.Object)) *accessHarness {
	t.Helper()
	h := newAccessHarness(t, append([]func(client.Object){withController}, changes...)...)
	h.r.options.Standalone = false
	return h
}

func (h *accessHarness) firewallCondition() metav1.Condition {
	h.t.Helper()
	return condition(h.cluster(), infrastructure.ConditionFirewallControllerReady)
}

// provideFirewallAccess reconciles until all is there in the management cluster.
func (h *accessHarness) provideFirewallAccess(token string) {
	h.t.Helper()
	h.reconcile(accessCluster)
	h.reconcile(accessCluster)
	require.Equal(h.t, infrastructure.ReasonWaitingForToken, h.firewallCondition().Reason, h.firewallCondition().Message)
	h.writeTokenOf(firewallAccount, token)
	h.step(accessCheckInterval)
	h.live.requests = nil
}

// firewallAccessObjects are the objects of the management cluster, by kind and name.
func firewallAccessObjects() map[string]func() (string, client.Object) {
	return map[string]func() (string, client.Object){
		"ServiceAccount": func() (string, client.Object) { return firewallAccount, &corev1.ServiceAccount{} },
		"Role":           func() (string, client.Object) { return firewallAccount, &rbacv1.Role{} },
		"RoleBinding":    func() (string, client.Object) { return firewallAccount, &rbacv1.RoleBinding{} },
		"token":          func() (string, client.Object) { return firewallToken, &corev1.Secret{} },
	}
}

func TestFirewallAccess_GrantsWhatAFirewallControllerReads(t *testing.T) {
	t.Parallel()
	h := newFirewallAccessHarness(t)
	h.reconcile(accessCluster)
	assert.Empty(t, h.live.requests, "the condition is written before objects")
	h.provideFirewallAccess("the-token")
	cluster := h.cluster()
	for what, of := range firewallAccessObjects() {
		name, obj := of()
		require.True(t, h.find(name, obj), what)
		assert.Equal(t, "rose", obj.GetLabels()[infrastructure.ClusterNameLabel], what)
		assert.True(t, newFirewallAccess(nil).controls(cluster, obj), what)
		switch o := obj.(type) {
		case *corev1.ServiceAccount:
			assert.False(t, *o.AutomountServiceAccountToken)
		case *rbacv1.Role:
			assert.Equal(t, []rbacv1.PolicyRule{
				{APIGroups: []string{"firewall.metal-stack.io"}, Resources: []string{"firewalls", "firewalls/status"}, Verbs: []string{"get", "list", "watch"}},
				{
					APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"get"},
					ResourceNames: []string{accessCluster + "-firewall-workload-config", accessCluster + "-firewall-workload-token"},
				},
			}, o.Rules)
		case *rbacv1.RoleBinding:
			assert.Equal(t, rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: firewallAccount}, o.RoleRef)
			assert.Equal(t, []rbacv1.Subject{{Kind: "ServiceAccount", Name: firewallAccount, Namespace: namespace}}, o.Subjects)
		}
	}
	assert.Empty(t, h.condition(), "nothing is said of the access to the metal-api")
}

func TestFirewallAccess_ClusterWithoutControllerCostsNoRequest(t *testing.T) {
	t.Parallel()
	h := newFirewallAccessHarness(t, func(obj client.Object) { obj.(*v1alpha4.MetalStackCluster).Spec.FirewallSpec.Controller = nil })
	for range 3 {
		h.step(time.Hour)
	}
	assert.Empty(t, h.live.requests)
	assert.Empty(t, h.firewallCondition())
}

func TestFirewallAccess_StandaloneThereIsNone(t *testing.T) {
	t.Parallel()
	h := newFirewallAccessHarness(t)
	h.r.options.Standalone = true
	h.step(0)
	assert.Empty(t, h.live.requests)
	assert.Empty(t, h.firewallCondition())
}

func TestFirewallAccess_IsIndependentOfTheAccessToTheMetalAPI(t *testing.T) {
	t.Parallel()
	h := newFirewallAccessHarness(t, func(obj client.Object) {
		obj.(*v1alpha4.MetalStackCluster).Spec.MetalAPIAccess = &v1alpha4.MetalAPIAccess{}
	})
	h.reconcile(accessCluster)
	h.reconcile(accessCluster)
	h.writeToken("one")
	h.writeTokenOf(firewallAccount, "two")
	h.step(accessCheckInterval)
	assert.Equal(t, infrastructure.ReasonMetalAPIAccessProvided, h.condition().Reason)
	h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.MetalAPIAccess = nil })
	h.step(0)
	assert.Empty(t, h.condition())
	for what, of := range firewallAccessObjects() {
		assert.True(t, h.find(of()), what)
	}
}

func TestFirewallAccess_IsRevokedWithTheController(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*v1alpha4.MetalStackCluster){
		"removed":                   func(c *v1alpha4.MetalStackCluster) { c.Spec.FirewallSpec.Controller = nil },
		"removed with the firewall": func(c *v1alpha4.MetalStackCluster) { c.Spec.FirewallSpec = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newFirewallAccessHarness(t)
			h.provideFirewallAccess("the-token")
			for _, secret := range []string{"-firewall-workload-config", "-firewall-workload-token"} {
				require.NoError(t, h.api.Create(t.Context(), &corev1.Secret{ObjectMeta: accessMeta(h.cluster(), accessCluster+secret)}))
			}
			h.change(change)
			h.live.refuse = func(verb string, _ client.Object) error {
				if verb == "delete" {
					return apierrors.NewForbidden(corev1.Resource("secrets"), "x", errors.New("not now"))
				}
				return nil
			}
			h.step(0)
			assert.Contains(t, h.firewallCondition().Message, "The access of the firewall-controllers cannot be revoked yet")
			h.live.refuse = nil
			h.step(minAccessRetry)
			for what, of := range firewallAccessObjects() {
				assert.False(t, h.find(of()), what)
			}
			assert.False(t, h.find(accessCluster+"-firewall-workload-config", &corev1.Secret{}))
			assert.False(t, h.find(accessCluster+"-firewall-workload-token", &corev1.Secret{}))
			assert.Empty(t, h.firewallCondition())
			assert.True(t, slices.ContainsFunc(h.takeEvents(), func(e string) bool { return strings.Contains(e, EventFirewallAccessRevoked) }))
		})
	}
}

func TestFirewallAccess_IsRevokedBeforeTheRelease(t *testing.T) {
	t.Parallel()
	h := newFirewallAccessHarness(t)
	h.provideFirewallAccess("the-token")
	h.r.options.Standalone = true // It has no owner.
	for _, f := range h.firewalls() {
		require.NoError(t, h.drop(firewalls, f.Name))
	}
	require.NoError(t, h.api.Delete(t.Context(), h.cluster()))
	h.change(func(c *v1alpha4.MetalStackCluster) { deletedBy(v1alpha4.DeletionByUser)(c) })
	h.onRelease = func(client.Object) {
		for what, of := range firewallAccessObjects() {
			assert.False(t, h.find(of()), what)
		}
	}
	h.step(0)
	assert.Contains(t, h.calls, "release "+accessCluster)
	assert.False(t, h.exists(clusters, accessCluster))
}

func TestFirewallAccess_SaysWhatItLacks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(h *accessHarness)
		reason string
		says   string
	}{
		"management URL": {
			func(h *accessHarness) { h.r.options.ManagementCluster.URL = "" },
			infrastructure.ReasonManagementURLMissing, "--management-cluster-url",
		},
		"authority": {
			func(h *accessHarness) {
				h.r.options.ManagementCluster.Authority = func() (string, error) { return "", errors.New("open /etc/ca.crt: permission denied") }
			},
			infrastructure.ReasonAuthorityUnreadable, "open /etc/ca.crt: permission denied",
		},
		"right": {
			func(h *accessHarness) {
				h.live.refuse = func(string, client.Object) error {
					return apierrors.NewForbidden(corev1.Resource("serviceaccounts"), firewallAccount, errors.New("no RoleBinding"))
				}
			},
			infrastructure.ReasonMetalAPIAccessCreationRefused, "no RoleBinding",
		},
		"name": {
			func(h *accessHarness) {
				require.NoError(h.t, h.api.Create(h.t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: firewallAccount}}))
			},
			infrastructure.ReasonMetalAPIAccessNameTaken, "does not belong to this cluster",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newFirewallAccessHarness(t)
			c.change(h)
			h.reconcile(accessCluster)
			h.reconcile(accessCluster)
			assert.Equal(t, metav1.ConditionFalse, h.firewallCondition().Status)
			assert.Equal(t, c.reason, h.firewallCondition().Reason)
			assert.Contains(t, h.firewallCondition().Message, c.says)
			assert.Len(t, h.firewalls(), 1, "the firewall is made all the same")
		})
	}
}
