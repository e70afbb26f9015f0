// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// The first of two webhooks wants to see what the second has changed.
func TestAdmission_CallsMutatingWebhooksAgainIfNeeded(t *testing.T) {
	t.Parallel()
	var first, second atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		review := &admissionv1.AdmissionReview{}
		if err := json.NewDecoder(req.Body).Decode(review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		if req.URL.Path == "/first" {
			first.Add(1)
		} else {
			second.Add(1)
			review.Response.PatchType = ptr.To(admissionv1.PatchTypeJSONPatch)
			review.Response.Patch = []byte(`[{"op":"add","path":"/metadata/labels","value":{"by":"second"}}]`)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(server.Close)
	webhook := func(name string, policy admissionregistrationv1.ReinvocationPolicyType) admissionregistrationv1.MutatingWebhook {
		return admissionregistrationv1.MutatingWebhook{
			Name: name + ".example.com", ReinvocationPolicy: &policy, TimeoutSeconds: ptr.To[int32](10),
			ClientConfig:      admissionregistrationv1.WebhookClientConfig{URL: ptr.To(server.URL + "/" + name), CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})},
			NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &metav1.LabelSelector{}, MatchPolicy: ptr.To(admissionregistrationv1.Equivalent),
			FailurePolicy: ptr.To(admissionregistrationv1.Fail), SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{infrastructure.GroupName}, APIVersions: []string{"*"}, Resources: []string{"*"}, Scope: ptr.To(admissionregistrationv1.AllScopes)},
			}},
		}
	}
	env, stop := newEnvironment(&admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "both"},
		Webhooks: []admissionregistrationv1.MutatingWebhook{
			webhook("first", admissionregistrationv1.IfNeededReinvocationPolicy), webhook("second", admissionregistrationv1.NeverReinvocationPolicy),
		},
	})
	t.Cleanup(stop)
	env.start(t)
	a := createRequest("")
	require.NoError(t, env.request(t.Context(), a))
	assert.Equal(t, map[string]string{"by": "second"}, a.GetObject().(*infrastructure.MetalStackMachine).Labels)
	assert.Equal(t, int32(2), first.Load())
	assert.Equal(t, int32(1), second.Load())
}
