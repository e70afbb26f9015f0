// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func definition(name string) *unstructured.Unstructured {
	d := &unstructured.Unstructured{}
	d.SetGroupVersionKind(definitionKind)
	d.SetName(name)
	return d
}

func TestWorkload_FirewallControllersGetWhatTheyNeed(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	assert.True(t, h.inWorkload(&corev1.Namespace{}, "", "firewall"))
	for _, name := range []string{"clusterwidenetworkpolicies.metal-stack.io", "firewallmonitors.firewall.metal-stack.io"} {
		assert.True(t, h.inWorkload(definition(name), "", name), name)
	}
	assert.True(t, h.inWorkload(&corev1.ServiceAccount{}, "firewall", "firewall-controller"))
	binding := &rbacv1.ClusterRoleBinding{}
	require.True(t, h.inWorkload(binding, "", "metal-stack:firewall-controller"))
	assert.Equal(t, "metal-stack:firewall-controller", binding.RoleRef.Name)
	assert.True(t, h.inWorkload(&rbacv1.ClusterRole{}, "", "metal-stack:firewall-controller"))

	monitor := h.monitor().Object
	for field, want := range map[string]any{"size": "small", "image": "firewall-1", "partition": "fra-01", "project": "project-1", "networks": []any{"private-1", "internet"}, "conditions": []any{}} {
		assert.Equal(t, want, monitor[field], field)
	}

	config, token := &corev1.Secret{}, &corev1.Secret{}
	require.True(t, h.find(accessCluster+"-firewall-workload-config", config))
	require.True(t, h.find(accessCluster+"-firewall-workload-token", token))
	assert.Equal(t, "issued-1", string(token.Data["token"]))
	parsed, err := clientcmd.Load(config.Data["kubeconfig"])
	require.NoError(t, err)
	assert.Equal(t, []int{1, 1, 1}, []int{len(parsed.Clusters), len(parsed.AuthInfos), len(parsed.Contexts)})
	reached, err := clientcmd.RESTConfigFromKubeConfig(config.Data["kubeconfig"])
	require.NoError(t, err)
	assert.Equal(t, "https://10.0.0.1:6443", reached.Host)
	assert.Equal(t, "the authority", string(reached.CAData))
	assert.NotContains(t, string(config.Data["kubeconfig"]), "the-admins-token")

	assert.Equal(t, &v1alpha4.FirewallWorkloadAccess{
		KubeconfigSecretName: config.Name, TokenSecretName: token.Name, APIServerURL: "https://10.0.0.1:6443",
	}, h.firewall().Status.WorkloadAccess)
	assert.Equal(t, metav1.ConditionTrue, h.firewallCondition().Status)
	assert.Equal(t, infrastructure.ReasonFirewallAccessProvided, h.firewallCondition().Reason)
	assert.Equal(t, infrastructure.ReasonControllerNeverReported, condition(h.firewall(), infrastructure.ConditionControllerConnected).Reason)
}

func TestWorkload_EndpointIsThatOfTheControlPlane(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t, func(obj client.Object) {
		obj.(*v1alpha4.MetalStackCluster).Spec.ControlPlaneEndpoint = v1alpha4.APIEndpoint{Host: "2001:db8::1", Port: 443}
	})
	assert.Equal(t, "https://[2001:db8::1]:443", h.firewall().Status.WorkloadAccess.APIServerURL)
}

func TestWorkload_ClusterWithoutControllerCostsNothing(t *testing.T) {
	t.Parallel()
	h := newWorkloadHarness(t, func(obj client.Object) { obj.(*v1alpha4.MetalStackCluster).Spec.FirewallSpec.Controller = nil })
	h.writeKubeconfig(workloadKubeconfigText)
	h.reconcile(accessCluster)
	h.live.requests = nil
	assert.Zero(t, h.visit(time.Hour))
	assert.Empty(t, h.requests)
	assert.Empty(t, h.live.requests)
}

func TestWorkload_IsLeftWhile(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*v1alpha4.MetalStackCluster){
		"paused":  func(c *v1alpha4.MetalStackCluster) { annotated(infrastructure.PausedAnnotation)(c) },
		"moved":   func(c *v1alpha4.MetalStackCluster) { annotated(infrastructure.DeleteForMoveAnnotation)(c) },
		"deleted": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newConnectedHarness(t)
			if change != nil {
				h.change(change)
			} else {
				require.NoError(t, h.api.Delete(t.Context(), h.cluster()))
			}
			h.clock.Step(time.Hour)
			h.requests = nil
			_, err := h.w.Reconcile(t.Context(), requestOf(accessCluster))
			require.NoError(t, err)
			assert.Empty(t, h.requests)
			assert.True(t, h.inWorkload(&corev1.ServiceAccount{}, "firewall", "firewall-controller"))
		})
	}
}

// A poll reads one monitor, and nothing else in either cluster.
func TestWorkload_PollsAreCheap(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	h.report(map[string]any{"lastRun": h.at(0), "lastRunAgainstSeed": h.at(0)})
	after := h.visit(eagerReportInterval * 2)
	assert.GreaterOrEqual(t, after, reportInterval)
	h.live.requests = nil
	h.clock.Step(after)
	h.requests = nil
	_, err := h.w.Reconcile(t.Context(), requestOf(accessCluster))
	require.NoError(t, err)
	assert.Equal(t, []string{"get f-host"}, h.requests)
	assert.Empty(t, h.live.requests)
	h.requests = nil
	_, err = h.w.Reconcile(t.Context(), requestOf(accessCluster))
	require.NoError(t, err)
	assert.Empty(t, h.requests, "an event alone has nothing read")
}

func TestWorkload_RestoresWhatWasDeleted(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	require.NoError(t, h.workload.Delete(t.Context(), h.monitor()))
	require.NoError(t, h.workload.Delete(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "metal-stack:firewall-controller"}}))
	require.NoError(t, h.api.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: accessCluster + "-firewall-workload-config"}}))
	h.visit(eagerReportInterval * 2)
	h.monitor()
	h.visit(workloadCheckInterval)
	assert.True(t, h.inWorkload(&rbacv1.ClusterRoleBinding{}, "", "metal-stack:firewall-controller"))
	assert.True(t, h.find(accessCluster+"-firewall-workload-config", &corev1.Secret{}))
}

// The tenant is administrator in the workload cluster, so what stays there is its decision; the
// rights of firewall-controllers are corrected for those who change them by mistake.
func TestWorkload_RestoresTheRights(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	role := &rbacv1.ClusterRole{}
	require.True(t, h.inWorkload(role, "", "metal-stack:firewall-controller"))
	rules := role.DeepCopy().Rules
	role.Rules = role.Rules[:1]
	require.NoError(t, h.workload.Update(t.Context(), role))
	h.visit(workloadCheckInterval)
	require.True(t, h.inWorkload(role, "", "metal-stack:firewall-controller"))
	assert.Equal(t, rules, role.Rules)
}

// A firewall-controller may bring a newer definition.
func TestWorkload_DefinitionOfAnotherIsLeft(t *testing.T) {
	t.Parallel()
	const name = "firewallmonitors.firewall.metal-stack.io"
	h := newConnectedHarness(t)
	newer := definition(name)
	require.True(t, h.inWorkload(newer, "", name))
	require.NoError(t, unstructured.SetNestedField(newer.Object, "Newer", "spec", "names", "listKind"))
	require.NoError(t, h.workload.Update(t.Context(), newer, client.FieldOwner("firewall-controller")))
	h.visit(workloadCheckInterval)
	is := definition(name)
	require.True(t, h.inWorkload(is, "", name))
	kind, _, _ := unstructured.NestedString(is.Object, "spec", "names", "listKind")
	assert.Equal(t, "Newer", kind)
}

func TestWorkload_TokenIsRenewed(t *testing.T) {
	t.Parallel()
	token := func(h *workloadHarness) string {
		secret := &corev1.Secret{}
		require.True(h.t, h.find(accessCluster+"-firewall-workload-token", secret))
		return string(secret.Data["token"])
	}
	for name, c := range map[string]struct {
		change  func(h *workloadHarness)
		after   time.Duration
		renewed bool
	}{
		"before half its time": {nil, 11 * time.Hour, false},
		"after half its time":  {nil, 12 * time.Hour, true},
		"of another ServiceAccount": {func(h *workloadHarness) {
			account := &corev1.ServiceAccount{}
			require.True(h.t, h.inWorkload(account, "firewall", "firewall-controller"))
			account.UID = "another"
			require.NoError(h.t, h.workload.Update(h.t.Context(), account))
		}, workloadCheckInterval, true},
		"without annotations, as after a move": {func(h *workloadHarness) {
			secret := &corev1.Secret{}
			require.True(h.t, h.find(accessCluster+"-firewall-workload-token", secret))
			secret.Annotations = nil
			require.NoError(h.t, h.api.Update(h.t.Context(), secret))
		}, workloadCheckInterval, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newConnectedHarness(t)
			require.Equal(t, "issued-1", token(h))
			if c.change != nil {
				c.change(h)
			}
			h.visit(c.after)
			assert.Equal(t, c.renewed, token(h) != "issued-1")
			assert.Equal(t, c.renewed, h.tokens == 2)
		})
	}
}

func TestWorkload_SaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(h *workloadHarness)
		reason  string
		says    string
	}{
		"kubeconfig": {nil, infrastructure.ReasonWaitingForControlPlane, "Secret rose-kubeconfig, the kubeconfig of the workload cluster, not found"},
		"kubeconfig that names a command": {
			func(h *workloadHarness) {
				h.writeKubeconfig(strings.Replace(workloadKubeconfigText, "{token: the-admins-token}", `{exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/true}}`, 1))
			}, infrastructure.ReasonWorkloadClusterUnreachable, "is not used: its user must have a token",
		},
		"control plane": {
			func(h *workloadHarness) {
				h.writeKubeconfig(workloadKubeconfigText)
				h.refuse = func(string, client.Object) error { return errors.New("dial: quoted-secret") }
			}, infrastructure.ReasonWaitingForControlPlane, "The workload cluster cannot be used: a request to the API server failed",
		},
		"right": {
			func(h *workloadHarness) {
				h.writeKubeconfig(workloadKubeconfigText)
				h.refuse = func(string, client.Object) error {
					return apierrors.NewForbidden(corev1.Resource("namespaces"), "firewall", errors.New("quoted-secret"))
				}
			}, infrastructure.ReasonWaitingForControlPlane, "the API server answers 403 Forbidden",
		},
		"name of a Secret": {
			func(h *workloadHarness) {
				h.writeKubeconfig(workloadKubeconfigText)
				require.NoError(h.t, h.api.Create(h.t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: accessCluster + "-firewall-workload-token"}}))
			}, infrastructure.ReasonMetalAPIAccessNameTaken, "does not belong to this cluster",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newWorkloadHarness(t)
			h.provideFirewallAccess("the-token")
			if c.prepare != nil {
				c.prepare(h)
			}
			after := h.visit(0)
			assert.Positive(t, after)
			assert.LessOrEqual(t, after, 2*minWorkloadRetry)
			said := h.firewallCondition()
			assert.Equal(t, metav1.ConditionFalse, said.Status)
			assert.Equal(t, c.reason, said.Reason)
			assert.Contains(t, said.Message, c.says)
			assert.NotContains(t, said.Message, "quoted-secret")
			f := h.firewall()
			assert.Equal(t, metav1.ConditionUnknown, condition(f, infrastructure.ConditionControllerConnected).Status)
			assert.Nil(t, f.Status.WorkloadAccess)
			for range 10 {
				after = h.visit(after)
			}
			assert.GreaterOrEqual(t, after, maxWorkloadRetry)
			assert.LessOrEqual(t, after, maxWorkloadRetry*6/5)
		})
	}
}

func TestWorkload_OutageIsSaidAfterAMinuteAndEnds(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	h.report(map[string]any{"lastRun": h.at(0), "lastRunAgainstSeed": h.at(0)})
	h.visit(eagerReportInterval * 2)
	connectedIs := func() metav1.Condition { return condition(h.firewall(), infrastructure.ConditionControllerConnected) }
	require.Equal(t, metav1.ConditionTrue, connectedIs().Status)
	h.refuse = func(string, client.Object) error { return apierrors.NewServiceUnavailable("away") }
	after := h.visit(reportInterval * 2)
	assert.Equal(t, metav1.ConditionTrue, connectedIs().Status, "one failure says nothing")
	assert.Equal(t, metav1.ConditionFalse, h.firewallCondition().Status)
	for began := h.clock.Now(); h.clock.Since(began) < unreachableGrace; {
		after = h.visit(after)
	}
	assert.Equal(t, metav1.ConditionUnknown, connectedIs().Status)
	assert.Equal(t, infrastructure.ReasonWorkloadClusterUnreachable, connectedIs().Reason)
	assert.NotNil(t, h.firewall().Status.Controller, "what was reported stays")
	h.refuse = nil
	h.report(map[string]any{"lastRun": h.at(0), "lastRunAgainstSeed": h.at(0)})
	h.visit(after)
	assert.Equal(t, metav1.ConditionTrue, connectedIs().Status)
	assert.Equal(t, metav1.ConditionTrue, h.firewallCondition().Status)
}

// What does not answer occupies a worker for so long, and is said all the same.
func TestWorkload_VisitsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newConnectedHarness(t)
		h.hang = true
		for h.firewallCondition().Reason != infrastructure.ReasonWaitingForControlPlane || condition(h.firewall(), infrastructure.ConditionControllerConnected).Status != metav1.ConditionUnknown {
			began := time.Now()
			h.visit(maxWorkloadRetry * 6 / 5)
			require.Equal(t, workloadTimeout, time.Since(began))
		}
		assert.Contains(t, h.firewallCondition().Message, "does not answer within 5s")
	})
}

// A credential that was replaced is read again.
func TestWorkload_KubeconfigIsReadAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	h.refuse = func(string, client.Object) error { return apierrors.NewUnauthorized("expired") }
	after := h.visit(eagerReportInterval * 2)
	h.live.requests = nil
	h.visit(after)
	assert.Contains(t, h.live.requests, "get *v1.Secret rose-kubeconfig")
}

func TestWorkload_IsCleanedWhenTheControllerIsRemoved(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	h.report(map[string]any{"lastRun": h.at(0)})
	h.visit(eagerReportInterval * 2)
	h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.FirewallSpec.Controller = nil })
	h.step(0)
	for what, of := range firewallAccessObjects() {
		assert.False(t, h.find(of()), what)
	}
	assert.Equal(t, infrastructure.ReasonRevoking, h.firewallCondition().Reason)
	require.NotNil(t, h.firewall().Status.Controller)
	h.visit(0)
	assert.Empty(t, h.firewallCondition())
	assert.False(t, h.inWorkload(&corev1.ServiceAccount{}, "firewall", "firewall-controller"))
	assert.False(t, h.inWorkload(&rbacv1.ClusterRole{}, "", "metal-stack:firewall-controller"))
	assert.False(t, h.inWorkload(&rbacv1.ClusterRoleBinding{}, "", "metal-stack:firewall-controller"))
	monitor := &unstructured.Unstructured{}
	monitor.SetGroupVersionKind(monitorKind)
	assert.False(t, h.inWorkload(monitor, "firewall", "f-host"))
	assert.True(t, h.inWorkload(&corev1.Namespace{}, "", "firewall"), "it has the user's policies")
	assert.True(t, h.inWorkload(definition("clusterwidenetworkpolicies.metal-stack.io"), "", "clusterwidenetworkpolicies.metal-stack.io"))
	f := h.firewall()
	assert.Nil(t, f.Status.Controller)
	assert.Nil(t, f.Status.WorkloadAccess)
	assert.Empty(t, condition(f, infrastructure.ConditionControllerConnected))
	assert.Empty(t, condition(f, infrastructure.ConditionSeedConnected))
	assert.Zero(t, h.visit(time.Hour))
	assert.Empty(t, h.requests)
}

func TestWorkload_CleaningEndsWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.FirewallSpec = nil })
	h.refuse = func(string, client.Object) error { return errAway }
	h.step(0)
	h.visit(0)
	assert.Equal(t, infrastructure.ReasonRevoking, h.firewallCondition().Reason)
	h.visit(cleanupTimeout)
	assert.Empty(t, h.firewallCondition())
}

// What is made between the revocation and its end does not stay.
func TestWorkload_SecretsOfALateReconcileAreDeleted(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.FirewallSpec = nil })
	h.step(0)
	require.NoError(t, h.api.Create(t.Context(), &corev1.Secret{ObjectMeta: accessMeta(h.cluster(), accessCluster+"-firewall-workload-token"), Type: corev1.SecretTypeOpaque}))
	h.visit(0)
	assert.False(t, h.find(accessCluster+"-firewall-workload-token", &corev1.Secret{}))
	assert.Empty(t, h.firewallCondition())
}

func TestWorkload_MonitorGoesWithItsFirewall(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	foreign := &unstructured.Unstructured{}
	foreign.SetGroupVersionKind(monitorKind)
	foreign.SetNamespace("firewall")
	foreign.SetName("of-a-user")
	require.NoError(t, h.workload.Create(t.Context(), foreign))
	h.changeFirewall(func(f *v1alpha4.MetalStackFirewall) { f.Status.Metal = nil })
	h.visit(workloadCheckInterval)
	h.monitor() // Its machine is not observed yet.
	h.changeFirewall(func(f *v1alpha4.MetalStackFirewall) { f.Status.Allocation.Phase = v1alpha4.AllocationReleased })
	h.visit(workloadCheckInterval)
	monitor := &unstructured.Unstructured{}
	monitor.SetGroupVersionKind(monitorKind)
	assert.False(t, h.inWorkload(monitor, "firewall", "f-host"))
	assert.True(t, h.inWorkload(monitor, "firewall", "of-a-user"))
}

func TestWorkload_TokensAreInNoMessage(t *testing.T) {
	t.Parallel()
	h := newWorkloadHarness(t)
	h.provideFirewallAccess("the-token")
	h.writeKubeconfig(workloadKubeconfigText)
	var logged strings.Builder
	ctx := ctrl.LoggerInto(t.Context(), funcr.New(func(_, args string) { logged.WriteString(args) }, funcr.Options{Verbosity: 9}))
	h.live.refuse = func(verb string, obj client.Object) error {
		if secret, ok := obj.(*corev1.Secret); ok && verb == "create" {
			return apierrors.NewForbidden(corev1.Resource("secrets"), secret.Name, errors.New(string(secret.Data["token"])))
		}
		return nil
	}
	_, err := h.w.Reconcile(ctx, requestOf(accessCluster))
	require.NoError(t, err)
	h.live.refuse = nil
	h.clock.Step(time.Minute)
	_, err = h.w.Reconcile(ctx, requestOf(accessCluster))
	require.NoError(t, err)
	h.reconcile(accessCluster)
	require.Equal(t, 1, h.tokens)
	written, err := jsonOf(h.firewall())
	require.NoError(t, err)
	cluster, err := jsonOf(h.cluster())
	require.NoError(t, err)
	said := logged.String() + written + cluster + strings.Join(h.takeEvents(), "")
	for _, secret := range []string{"issued-", "the-admins-token", "the-token"} {
		assert.NotContains(t, said, secret)
	}
}

// After a restart, what was said holds until the workload cluster has been asked.
func TestWorkload_ConditionOutlivesARestart(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	h.r.workload.reset(requestOf(accessCluster))
	h.step(accessCheckInterval)
	assert.Equal(t, metav1.ConditionTrue, h.firewallCondition().Status)
}
