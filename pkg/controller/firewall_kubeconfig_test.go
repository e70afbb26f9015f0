// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const managementURL = "https://kubernetes.example.org:6443"

// firewallWithController is firewall f of Cluster c with all that its allocation needs, and the
// token of its firewall-controller.
func firewallWithController() map[string]client.Object {
	infra := infraCluster(func(obj client.Object) {
		obj.(*v1alpha4.MetalStackCluster).Spec.FirewallSpec = &v1alpha4.MetalStackFirewallSpec{Controller: &v1alpha4.FirewallController{}}
	}).(*v1alpha4.MetalStackCluster)
	account := &corev1.ServiceAccount{ObjectMeta: accessMeta(infra, "c-infra-firewall-controller")}
	account.UID = "uid-of-account"
	token := &corev1.Secret{ObjectMeta: accessMeta(infra, account.Name+"-token"), Type: corev1.SecretTypeServiceAccountToken}
	token.OwnerReferences[0].APIVersion, token.OwnerReferences[0].Kind = "v1", "ServiceAccount"
	token.OwnerReferences[0].Name, token.OwnerReferences[0].UID = account.Name, account.UID
	token.Annotations = map[string]string{corev1.ServiceAccountNameKey: account.Name, corev1.ServiceAccountUIDKey: string(account.UID)}
	token.Data = map[string][]byte{"token": []byte("very-secret-token")}
	return map[string]client.Object{
		"cluster": capiCluster(), "infra": infra, "account": account, "token": token,
		"obj": object(firewalls, "f", of("c"), func(obj client.Object) {
			obj.(*v1alpha4.MetalStackFirewall).Spec.Controller = &v1alpha4.FirewallController{}
		}),
	}
}

func controllerHarness(t *testing.T, objects map[string]client.Object) *harness {
	t.Helper()
	h := harnessOf(t, firewalls, objects)
	options := NewOptions()
	options.ManagementCluster = ManagementCluster{URL: managementURL, Authority: func() (string, error) { return "the authority", nil }}
	h.use(firewalls, options)
	return h
}

// ignitionOf is what user data say.
type ignitionOf struct {
	Ignition struct {
		Version string `json:"version"`
	} `json:"ignition"`
	Storage struct {
		Files []struct {
			Filesystem string `json:"filesystem"`
			Path       string `json:"path"`
			Mode       int    `json:"mode"`
			Contents   struct {
				Source string `json:"source"`
			} `json:"contents"`
		} `json:"files"`
	} `json:"storage"`
	Systemd struct {
		Units []struct {
			Name    string `json:"name"`
			Enabled bool   `json:"enabled"`
			Mask    bool   `json:"mask"`
		} `json:"units"`
	} `json:"systemd"`
}

func parseUserData(t *testing.T, userData []byte) (all ignitionOf) {
	t.Helper()
	require.NoError(t, json.Unmarshal(userData, &all))
	return all
}

func TestFirewallUserData_HoldKubeconfigOfTheManagementCluster(t *testing.T) {
	t.Parallel()
	h := controllerHarness(t, firewallWithController())
	var access *v1alpha4.FirewallManagementAccess
	h.onAllocate = func(obj client.Object) { access = obj.(*v1alpha4.MetalStackFirewall).Status.ManagementAccess }
	h.reconcile("f")
	require.Equal(t, []string{"allocate f"}, h.calls)
	assert.Equal(t, &v1alpha4.FirewallManagementAccess{URL: managementURL, ServiceAccountUID: "uid-of-account"}, access, "it is written before the allocation")

	all := parseUserData(t, h.requests[0].UserData)
	assert.Equal(t, "2.3.0", all.Ignition.Version)
	require.Len(t, all.Storage.Files, 1)
	file := all.Storage.Files[0]
	assert.Equal(t, "root /etc/firewall-controller/.seed-kubeconfig", file.Filesystem+" "+file.Path)
	assert.Equal(t, 0o600, file.Mode)
	require.Len(t, all.Systemd.Units, 2)
	assert.Equal(t, "firewall-controller.service", all.Systemd.Units[0].Name)
	assert.True(t, all.Systemd.Units[0].Enabled)

	escaped, ok := strings.CutPrefix(file.Contents.Source, "data:,")
	require.True(t, ok)
	content, err := url.PathUnescape(escaped)
	require.NoError(t, err)
	config, err := clientcmd.Load([]byte(content))
	require.NoError(t, err)
	assert.Equal(t, namespace, config.CurrentContext)
	client, err := clientcmd.RESTConfigFromKubeConfig([]byte(content))
	require.NoError(t, err)
	assert.Equal(t, managementURL, client.Host)
	assert.Equal(t, "very-secret-token", client.BearerToken)
	assert.Equal(t, "the authority", string(client.CAData))
}

func TestFirewallUserData_RepeatedRequestHasTheSame(t *testing.T) {
	t.Parallel()
	h := controllerHarness(t, firewallWithController())
	h.refuse = refusalOf("f", "no machine available")
	h.reconcile("f")
	h.clock.Step(maxBackoff)
	h.reconcile("f")
	require.Len(t, h.requests, 2)
	assert.Equal(t, h.requests[0].UserData, h.requests[1].UserData)
}

func TestFirewallUserData_AreMergedWithIgnitionOfTheUser(t *testing.T) {
	t.Parallel()
	objects := firewallWithController()
	objects["secret"] = firewallSecret(map[string]string{"format": "ignition", "value": `{"ignition":{"version":"2.2.0"},"passwd":{"users":[{"name":"ops","uid":12345678901234567}]},` +
		`"storage":{"files":[{"filesystem":"root","path":"/etc/motd","mode":420,"contents":{"source":"data:,hi"}}]},` +
		`"systemd":{"units":[{"name":"droptailer.service","mask":true}]}}`})
	objects["obj"].(*v1alpha4.MetalStackFirewall).Spec.UserData = &v1alpha4.SecretReference{Name: "f-user-data"}
	h := controllerHarness(t, objects)
	h.reconcile("f")
	require.Equal(t, []string{"allocate f"}, h.calls)
	all := parseUserData(t, h.requests[0].UserData)
	assert.Equal(t, "2.2.0", all.Ignition.Version)
	require.Len(t, all.Storage.Files, 2)
	assert.Equal(t, "/etc/motd", all.Storage.Files[0].Path)
	require.Len(t, all.Systemd.Units, 2)
	assert.True(t, all.Systemd.Units[0].Mask, "the user's word on a unit holds")
	assert.Contains(t, string(h.requests[0].UserData), "12345678901234567", "numbers stay as they are")
}

func TestFirewallUserData_RefuseWhatTheKubeconfigCannotBeAddedTo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ value, says string }{
		"cloud-init":    {secretData, "must be an ignition config of version 2 as JSON"},
		"more than one": {`{"ignition":{"version":"2.3.0"}} {"very":"very-secret"}`, "must be an ignition config"},
		"no object":     {`null`, "must be an ignition config"},
		"version 3":     {`{"ignition":{"version":"3.4.0"},"very":"very-secret"}`, "ignition.version must be a version 2"},
		"no version":    {`{"very":"very-secret"}`, "ignition.version must be a version 2"},
		"replaced": {
			`{"ignition":{"version":"2.3.0","config":{"replace":{"source":"https://very-secret.example.org"}}}}`,
			"ignition.config.replace must not be set: a firewall takes that config in the place of this one, so the kubeconfig would be lost",
		},
		"same file":       {`{"ignition":{"version":"2.3.0"},"storage":{"files":[{"path":"/etc//firewall-controller/.seed-kubeconfig"}]}}`, "storage.files has /etc/firewall-controller/.seed-kubeconfig"},
		"link above":      {`{"ignition":{"version":"2.3.0"},"storage":{"links":[{"path":"/etc/firewall-controller"}]}}`, "storage.links has"},
		"directory there": {`{"ignition":{"version":"2.3.0"},"storage":{"directories":[{"path":"/etc/firewall-controller/.seed-kubeconfig"}]}}`, "storage.directories has"},
		"no list":         {`{"ignition":{"version":"2.3.0"},"storage":{"files":"very-secret"}}`, "storage.files must be a list"},
		"no section":      {`{"ignition":{"version":"2.3.0"},"systemd":["very-secret"]}`, "systemd must be an object"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := firewallWithController()
			objects["secret"] = firewallSecret(map[string]string{"value": c.value})
			objects["obj"].(*v1alpha4.MetalStackFirewall).Spec.UserData = &v1alpha4.SecretReference{Name: "f-user-data"}
			h := controllerHarness(t, objects)
			h.reconcile("f")
			require.Empty(t, h.calls)
			allocated := condition(h.get(firewalls, "f"), infrastructure.ConditionAllocated)
			assert.Equal(t, infrastructure.ReasonBootstrapDataInvalid, allocated.Reason)
			assert.Contains(t, allocated.Message, c.says)
			assert.Contains(t, allocated.Message, "Secret f-user-data")
			assert.NotContains(t, allocated.Message+strings.Join(h.takeEvents(), ""), "very-secret")
			assert.Nil(t, h.get(firewalls, "f").(*v1alpha4.MetalStackFirewall).Status.ManagementAccess)
		})
	}
}

func TestFirewallUserData_AreWaitedFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(h *harness)
		reason string
		says   string
	}{
		"management URL": {
			func(h *harness) { h.r.options.ManagementCluster.URL = "" }, infrastructure.ReasonManagementURLMissing, "--management-cluster-url",
		},
		"authority": {
			func(h *harness) {
				h.r.options.ManagementCluster.Authority = func() (string, error) { return "", errAway }
			}, infrastructure.ReasonAuthorityUnreadable, errAway.Error(),
		},
		"token": {
			func(h *harness) {
				require.NoError(h.t, h.api.Delete(h.t.Context(), firewallWithController()["token"]))
			}, infrastructure.ReasonWaitingForFirewallAccess, "ServiceAccount c-infra-firewall-controller",
		},
		"token of this ServiceAccount": {
			func(h *harness) {
				token := firewallWithController()["token"]
				token.GetAnnotations()[corev1.ServiceAccountUIDKey] = "another"
				require.NoError(h.t, h.api.Update(h.t.Context(), token))
			}, infrastructure.ReasonWaitingForFirewallAccess, "is not there yet",
		},
		"ServiceAccount of this cluster": {
			func(h *harness) {
				account := firewallWithController()["account"]
				owners := account.GetOwnerReferences()
				owners[0].UID = "another"
				account.SetOwnerReferences(owners)
				require.NoError(h.t, h.api.Update(h.t.Context(), account))
			}, infrastructure.ReasonWaitingForFirewallAccess, "is not there yet",
		},
		"controller of the cluster": {
			func(h *harness) {
				c := h.get(clusters, "c-infra").(*v1alpha4.MetalStackCluster)
				c.Spec.FirewallSpec = nil
				h.update(c)
			}, infrastructure.ReasonWaitingForFirewallAccess, "MetalStackCluster with firewallSpec.controller",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := controllerHarness(t, firewallWithController())
			c.change(h)
			result := h.reconcile("f")
			require.Empty(t, h.calls)
			require.NotZero(t, result.RequeueAfter)
			allocated := condition(h.get(firewalls, "f"), infrastructure.ConditionAllocated)
			assert.Equal(t, c.reason, allocated.Reason)
			assert.Contains(t, allocated.Message, c.says)
		})
	}
}

// It may be adopted, as after a move; otherwise the server refuses it.
func TestFirewallUserData_OfAFirewallThatNamesItsMachine(t *testing.T) {
	t.Parallel()
	named := func(objects map[string]client.Object) map[string]client.Object {
		objects["obj"].(*v1alpha4.MetalStackFirewall).Spec.ProviderID = "metal:///e0ab02d2-27cd-5a5e-8efc-080ba80cf258"
		return objects
	}
	t.Run("without a token", func(t *testing.T) {
		t.Parallel()
		objects := named(firewallWithController())
		objects["token"] = nil
		objects["secret"] = firewallSecret(map[string]string{"value": `{"ignition":{"version":"2.3.0"}}`})
		objects["obj"].(*v1alpha4.MetalStackFirewall).Spec.UserData = &v1alpha4.SecretReference{Name: "f-user-data"}
		h := controllerHarness(t, objects)
		h.reconcile("f")
		require.Equal(t, []string{"allocate f"}, h.calls)
		assert.Empty(t, h.requests[0].UserData, "no half of them is sent")
	})
	for name, adopted := range map[string]bool{"allocated": false, "adopted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := controllerHarness(t, named(firewallWithController()))
			h.onAllocate = func(obj client.Object) {
				obj.(*v1alpha4.MetalStackFirewall).Status.Allocation.Adopted = adopted
			}
			h.reconcile("f")
			require.Equal(t, []string{"allocate f"}, h.calls)
			require.NotEmpty(t, h.requests[0].UserData)
			h.clock.Step(cacheSyncDelay)
			h.reconcile("f")
			assert.Equal(t, adopted, h.get(firewalls, "f").(*v1alpha4.MetalStackFirewall).Status.ManagementAccess == nil)
		})
	}
}

// Of an allocation that has begun it is not known which user data its first request had.
func TestFirewallUserData_OfAnAllocationThatHasBegunChangeNoStatus(t *testing.T) {
	t.Parallel()
	objects := firewallWithController()
	with(v1alpha4.AllocationAllocating)(objects["obj"])
	h := controllerHarness(t, objects)
	h.reconcile("f")
	require.NotEmpty(t, h.requests[0].UserData)
	assert.Nil(t, h.get(firewalls, "f").(*v1alpha4.MetalStackFirewall).Status.ManagementAccess)
}

func TestFirewallUserData_AreInNoLogAndNoObject(t *testing.T) {
	t.Parallel()
	h := controllerHarness(t, firewallWithController())
	var logged strings.Builder
	ctx := ctrl.LoggerInto(t.Context(), funcr.New(func(_, args string) { logged.WriteString(args) }, funcr.Options{Verbosity: 9}))
	_, err := h.r.Reconcile(ctx, requestOf("f"))
	require.NoError(t, err)
	require.Contains(t, string(h.requests[0].UserData), "very-secret-token")
	written, err := jsonOf(h.get(firewalls, "f"))
	require.NoError(t, err)
	assert.NotContains(t, logged.String()+written+strings.Join(h.takeEvents(), ""), "very-secret")
}

// Standalone there is no management cluster: the static rules hold.
func TestFirewallUserData_StandaloneFirewallHasNone(t *testing.T) {
	t.Parallel()
	f := object(firewalls, "f", of("c"), func(obj client.Object) {
		obj.(*v1alpha4.MetalStackFirewall).Spec.Controller = &v1alpha4.FirewallController{Version: "v2", URL: "https://example.org"}
	})
	h := newHarness(t, firewalls, true, f, infraCluster(func(obj client.Object) { obj.SetName("c"); obj.SetOwnerReferences(nil) }))
	h.reconcile("f")
	require.Equal(t, []string{"allocate f"}, h.calls)
	assert.Empty(t, h.requests[0].UserData)
}
