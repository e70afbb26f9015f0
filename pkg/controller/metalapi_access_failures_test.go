// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func TestMetalAPIAccess_FailureHoldsNothingUp(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    error
		reason string
	}{
		"forbidden": {apierrors.NewForbidden(corev1.Resource("serviceaccounts"), "x", errors.New("no RoleBinding")), infrastructure.ReasonMetalAPIAccessCreationRefused},
		"no such API": {
			&meta.NoKindMatchError{GroupKind: corev1.SchemeGroupVersion.WithKind("ServiceAccount").GroupKind()}, infrastructure.ReasonMetalAPIAccessCreationRefused,
		},
		"no answer": {errAway, infrastructure.ReasonMetalAPIAccessRequestFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newAccessHarness(t, func(obj client.Object) {
				obj.(*v1alpha4.MetalStackCluster).Spec.FirewallSpec = &v1alpha4.MetalStackFirewallSpec{Image: "firewall", MachineType: "small"}
			})
			h.reconcile(accessCluster)
			for _, f := range h.firewalls() {
				require.NoError(t, h.api.Delete(t.Context(), &f))
			}
			h.live.refuse = func(string, client.Object) error { return c.err }
			// An error of a reconcile would have controller-runtime ignore when others are due.
			assert.Equal(t, minAccessRetry, h.step(0))
			assert.Equal(t, c.reason, h.condition().Reason)
			assert.Len(t, h.firewalls(), 1, "the firewall is made all the same")
			h.live.requests = nil
			h.step(minAccessRetry / 2)
			assert.Empty(t, h.live.requests)
			assert.Equal(t, 2*minAccessRetry, h.step(minAccessRetry/2))
		})
	}
}

// Access that was there is not said to be there while that cannot be read.
func TestMetalAPIAccess_FailureOfReadsIsInTheCondition(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t)
	h.provide("the-token")
	h.live.refuse = func(string, client.Object) error { return errAway }
	h.step(accessCheckInterval)
	assert.Equal(t, infrastructure.ReasonMetalAPIAccessRequestFailed, h.condition().Reason)
	assert.Contains(t, strings.ToLower(h.condition().Message), strings.ToLower(errAway.Error()))
	h.live.refuse = nil
	h.step(minAccessRetry)
	assert.Equal(t, infrastructure.ReasonMetalAPIAccessProvided, h.condition().Reason)
}

func TestMetalAPIAccess_UnreadableAuthorityIsInTheCondition(t *testing.T) {
	t.Parallel()
	h := newAccessHarness(t)
	h.provide("the-token")
	h.r.options.ManagementCluster.Authority = func() (string, error) { return "", errors.New("open /etc/ca.crt: permission denied") }
	h.step(accessCheckInterval)
	assert.Equal(t, infrastructure.ReasonAuthorityUnreadable, h.condition().Reason)
	assert.Contains(t, h.condition().Message, "open /etc/ca.crt: permission denied")
}

func TestMetalAPIAccess_RequestsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newAccessHarness(t)
		h.provide("the-token")
		h.live.hang = true
		began := time.Now()
		h.step(accessCheckInterval)
		assert.Equal(t, accessTimeout, time.Since(began))
		assert.Equal(t, infrastructure.ReasonMetalAPIAccessRequestFailed, h.condition().Reason)
		h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.MetalAPIAccess = nil })
		began = time.Now()
		h.step(0)
		assert.Equal(t, accessTimeout, time.Since(began))
	})
}

// An admission webhook or a proxy sees JSON, in which data of Secrets are base64.
func TestMetalAPIAccess_TokenIsInNoMessage(t *testing.T) {
	t.Parallel()
	quote := func(obj client.Object) string {
		secret := obj.(*corev1.Secret)
		var quoted strings.Builder
		for _, value := range secret.Data {
			fmt.Fprintf(&quoted, "%s %s ", value, base64.StdEncoding.EncodeToString(value))
		}
		return quoted.String()
	}
	refusals := map[string]func(quoted string) error{
		"a webhook that quotes it": func(quoted string) error {
			return apierrors.NewForbidden(corev1.Resource("secrets"), "rose-metal-ccm", errors.New("admission webhook denied: "+quoted))
		},
		"a proxy that quotes it": func(quoted string) error { return apierrors.NewInternalError(errors.New("bad gateway: " + quoted)) },
		"no status":              func(quoted string) error { return errors.New("garbled: " + quoted) },
	}
	for verb, prepare := range map[string]func(h *accessHarness){
		"create": func(h *accessHarness) {
			h.reconcile(accessCluster)
			h.reconcile(accessCluster)
			h.writeToken("the-token")
		},
		"patch": func(h *accessHarness) {
			h.provide("the-token")
			for _, name := range []string{accessCluster + "-metalapi-token", "rose-metal-ccm"} {
				secret := &corev1.Secret{}
				require.True(h.t, h.find(name, secret))
				secret.Labels = nil
				require.NoError(h.t, h.api.Update(h.t.Context(), secret))
			}
		},
		"delete": func(h *accessHarness) {
			h.provide("the-token")
			h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.MetalAPIAccess = nil })
		},
		"delete for a release": func(h *accessHarness) {
			h.provide("the-token")
			require.NoError(h.t, h.api.Delete(h.t.Context(), h.cluster()))
			h.change(func(c *v1alpha4.MetalStackCluster) { deletedBy(v1alpha4.DeletionByUser)(c) })
		},
	} {
		for name, refusal := range refusals {
			t.Run(verb+" refused by "+name, func(t *testing.T) {
				t.Parallel()
				h := newAccessHarness(t)
				prepare(h)
				h.clock.Step(accessCheckInterval)
				refused := 0
				h.live.refuse = func(did string, obj client.Object) error {
					if _, ok := obj.(*corev1.Secret); ok && strings.HasPrefix(verb, did) {
						refused++
						return refusal(quote(obj))
					}
					return nil
				}
				var logged strings.Builder
				ctx := ctrl.LoggerInto(t.Context(), funcr.New(func(_, args string) { logged.WriteString(args) }, funcr.Options{Verbosity: 9}))
				_, err := h.r.Reconcile(ctx, requestOf(accessCluster))
				require.Positive(t, refused)
				said := fmt.Sprint(err, h.takeEvents(), logged.String())
				if h.exists(clusters, accessCluster) {
					said += fmt.Sprint(h.condition())
				}
				assert.Contains(t, said, "Secret ", "which one it was")
				assert.NotContains(t, said, "the-token")
				assert.NotContains(t, said, base64.StdEncoding.EncodeToString([]byte("the-token")))
				// A manifest in base64 begins with that of "apiVersion".
				assert.NotContains(t, said, base64.StdEncoding.EncodeToString([]byte("apiVersion: v1"))[:16])
			})
		}
	}
}
