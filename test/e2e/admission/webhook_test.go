// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha3"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

// collector collects warnings.
type collector struct {
	mu    sync.Mutex
	texts []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (c *collector) HandleWarningHeader(_ int, _, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.texts = append(c.texts, text)
}

func (c *collector) has(part string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.texts, func(text string) bool { return strings.Contains(text, part) })
}

// webhook is a server that test code answers for.
type webhook struct {
	*httptest.Server
	mu sync.Mutex
	// reviews are the requests by path, and bodies what was sent.
	reviews map[string][]*admissionv1.AdmissionRequest
	bodies  []string
}

// serve starts a webhook.
func (s *space) serve(respond func(path string, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse) *webhook {
	s.t.Helper()
	hook := &webhook{reviews: map[string][]*admissionv1.AdmissionRequest{}}
	hook.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		review := &admissionv1.AdmissionReview{}
		if err == nil {
			err = json.Unmarshal(body, review)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		hook.mu.Lock()
		hook.reviews[req.URL.Path] = append(hook.reviews[req.URL.Path], review.Request)
		hook.bodies = append(hook.bodies, string(body))
		hook.mu.Unlock()
		review.Response = respond(req.URL.Path, review.Request)
		review.Response.UID = review.Request.UID
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review)
	}))
	certificate, key := s.ServingCertificate("127.0.0.1")
	pair, err := tls.X509KeyPair(certificate, key)
	require.NoError(s.t, err)
	hook.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	hook.Config.ErrorLog = log.New(io.Discard, "", 0)
	hook.StartTLS()
	s.t.Cleanup(hook.Close)
	return hook
}

func (h *webhook) requests(path string) []*admissionv1.AdmissionRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.reviews[path])
}

// validating registers a webhook at a path.
func (s *space) validating(url string, failurePolicy admissionregistrationv1.FailurePolicyType, timeoutSeconds int32, rules ...admissionregistrationv1.RuleWithOperations) {
	s.t.Helper()
	_, err := s.Client().AdmissionregistrationV1().ValidatingWebhookConfigurations().Create(s.t.Context(), &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{GenerateName: s.Namespace + "-"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "validate.example.com", ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: s.CA()},
			Rules: rules, NamespaceSelector: s.here(), FailurePolicy: &failurePolicy, TimeoutSeconds: &timeoutSeconds,
			SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
		}},
	}, metav1.CreateOptions{})
	require.NoError(s.t, err)
}

func (s *space) mutating(url string, rules ...admissionregistrationv1.RuleWithOperations) {
	s.t.Helper()
	_, err := s.Client().AdmissionregistrationV1().MutatingWebhookConfigurations().Create(s.t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{GenerateName: s.Namespace + "-"},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "mutate.example.com", ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: s.CA()},
			Rules: rules, NamespaceSelector: s.here(), SideEffects: ptr.To(admissionregistrationv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
		}},
	}, metav1.CreateOptions{})
	require.NoError(s.t, err)
}

func webhooksSeeObjectsAndNoSecret(s *space) {
	const secret = "join with token abcdef.0123456789abcdef"
	hook := s.serve(func(path string, r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		allowed := &admissionv1.AdmissionResponse{Allowed: true}
		if path == "/mutate" && r.Operation == admissionv1.Create && r.SubResource == "" {
			allowed.PatchType, allowed.Patch = ptr.To(admissionv1.PatchTypeJSONPatch), []byte(`[{"op":"add","path":"/metadata/labels","value":{"by":"webhook"}}]`)
		}
		return allowed
	})
	// A rule of another version than the one that clients use gets objects converted to it.
	all := rule(v1alpha3.SchemeGroupVersion.Version, every, "*/*")
	s.mutating(hook.URL+"/mutate", all)
	s.validating(hook.URL+"/validate", admissionregistrationv1.Fail, 10, all)
	s.eventually(func(ctx context.Context) error {
		_, err := s.tryTemplate(ctx, s.Admin())
		if err == nil && len(hook.requests("/mutate")) < 1 || len(hook.requests("/validate")) < 1 {
			err = fmt.Errorf("not called yet")
		}
		return err
	})
	for _, r := range append(hook.requests("/mutate"), hook.requests("/validate")...) {
		assert.True(s.t, *r.DryRun, "of a template in a dry run")
	}

	ctx, machines := s.t.Context(), s.as(s.User(restricted)).MetalStackMachines(s.Namespace)
	created, err := machines.Create(ctx, pausedMachine("node-1"), metav1.CreateOptions{})
	require.NoError(s.t, err)
	assert.Equal(s.t, "webhook", created.Labels["by"])
	_, err = machines.Patch(ctx, "node-1", types.MergePatchType, []byte(`{"metadata":{"labels":{"color":"red"}}}`), metav1.PatchOptions{})
	require.NoError(s.t, err)
	_, err = machines.Patch(ctx, "node-1", types.MergePatchType, []byte(`{"status":{"conditions":[]}}`), metav1.PatchOptions{}, "status")
	require.NoError(s.t, err)
	// What becomes of these does not matter here.
	_, _ = machines.Allocate(ctx, "node-1", &v1alpha4.Allocation{UserData: []byte(secret)}, metav1.CreateOptions{})
	_, _ = machines.ReadConsolePassword(ctx, "node-1", &v1alpha4.MachineConsolePassword{Spec: v1alpha4.MachineConsolePasswordSpec{Reason: "no network"}}, metav1.CreateOptions{})
	_, _ = machines.RequestPower(ctx, "node-1", &v1alpha4.MachinePower{Spec: v1alpha4.MachinePowerSpec{Action: v1alpha4.PowerCycle, Reason: "hangs"}}, metav1.CreateOptions{})
	_, _ = machines.Identify(ctx, "node-1", &v1alpha4.MachineIdentify{Spec: v1alpha4.MachineIdentifySpec{State: v1alpha4.LEDOn, Reason: "is looked for"}}, metav1.CreateOptions{})
	_, _ = machines.Reinstall(ctx, "node-1", &v1alpha4.MachineReinstall{Spec: v1alpha4.MachineReinstallSpec{Image: simulator.MachineImage, Reason: "is broken"}}, metav1.CreateOptions{})
	_, _ = machines.Lock(ctx, "node-1", &v1alpha4.MachineLock{Spec: v1alpha4.MachineLockSpec{Reason: "is examined"}}, metav1.CreateOptions{})
	for _, subresource := range []string{"allocation", "lock"} {
		_ = s.as(s.User(restricted)).RESTClient().Delete().Namespace(s.Namespace).Resource("metalstackmachines").Name("node-1").SubResource(subresource).Param("reason", "was examined").Do(ctx).Error()
	}
	require.NoError(s.t, machines.Delete(ctx, "node-1", metav1.DeleteOptions{}))
	_, err = machines.Patch(ctx, "node-1", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	require.NoError(s.t, err)
	templates := s.as(s.User(restricted)).MetalStackMachineTemplates(s.Namespace)
	_, err = templates.Create(ctx, objects.MachineTemplate("small"), metav1.CreateOptions{})
	require.NoError(s.t, err)
	require.NoError(s.t, templates.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))

	seen, bodies := map[string]bool{}, map[string]string{}
	for _, r := range hook.requests("/validate") {
		seen[strings.TrimSuffix(fmt.Sprintf("%s %s/%s", r.Operation, r.Resource.Resource, r.SubResource), "/")] = true
		bodies[r.SubResource] += string(r.Object.Raw)
		assert.Equal(s.t, v1alpha3.SchemeGroupVersion.Version, r.Kind.Version, "%s", r.Kind)
		assert.Equal(s.t, v1alpha4.SchemeGroupVersion.Version, r.RequestKind.Version)
		assert.Equal(s.t, s.Namespace, r.Namespace)
		for _, raw := range [][]byte{r.Object.Raw, r.OldObject.Raw} {
			var meta metav1.PartialObjectMetadata
			if len(raw) > 0 {
				require.NoError(s.t, json.Unmarshal(raw, &meta))
				assert.Equal(s.t, v1alpha3.SchemeGroupVersion.String(), meta.APIVersion)
			}
		}
		if r.Name == "node-1" && r.Operation == admissionv1.Create && r.SubResource == "" {
			assert.Equal(s.t, restricted, r.UserInfo.Username, "the user of the kube-apiserver's client")
			assert.Contains(s.t, string(r.Object.Raw), `"by":"webhook"`, "mutating webhooks come first")
		}
	}
	for _, want := range []string{
		"CREATE metalstackmachines", "UPDATE metalstackmachines", "UPDATE metalstackmachines/status", "CREATE metalstackmachines/power", "DELETE metalstackmachines",
		"CREATE metalstackmachines/identify", "CREATE metalstackmachines/reinstall", "CREATE metalstackmachines/lock", "DELETE metalstackmachines/lock",
		"CREATE metalstackmachinetemplates", "DELETE metalstackmachinetemplates",
	} {
		assert.True(s.t, seen[want], "%s is not in %v", want, seen)
	}
	for subresource, part := range map[string]string{"power": "hangs", "identify": "is looked for", "reinstall": "is broken", "lock": "is examined"} {
		assert.Contains(s.t, bodies[subresource], part, subresource)
	}
	for what := range seen {
		assert.NotContains(s.t, what, "allocation")
		assert.NotContains(s.t, what, "consolepassword")
	}
	hook.mu.Lock()
	defer hook.mu.Unlock()
	for _, body := range hook.bodies {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret)), `"userData"`} {
			assert.NotContains(s.t, body, form)
		}
	}
}

func webhookThatIsAwayIsBounded(s *space) {
	ended := make(chan struct{})
	end := sync.OnceFunc(func() { close(ended) })
	hook := s.serve(func(string, *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		<-ended
		return &admissionv1.AdmissionResponse{Allowed: true}
	})
	s.t.Cleanup(end)
	away := s.serve(nil)
	away.Close()
	templates := "metalstackmachinetemplates"
	s.validating(hook.URL+"/hang", admissionregistrationv1.Ignore, 1, rule("*", create, "metalstackclustertemplates"))
	s.validating(away.URL, admissionregistrationv1.Ignore, 1, rule("*", create, "metalstackclustertemplates"))
	s.validating(away.URL, admissionregistrationv1.Fail, 1, rule("*", create, templates))
	s.refused(s.Admin(), "failed calling webhook")
	_, err := s.tryTemplate(s.t.Context(), s.Admin())
	require.True(s.t, apierrors.IsInternalError(err), "%v", err)

	s.validating(hook.URL+"/hold", admissionregistrationv1.Fail, 30, rule("*", create, "metalstackfirewalls"))
	s.validating(hook.URL+"/hang", admissionregistrationv1.Fail, 1, rule("*", create, "metalstackmachines"))
	machines := s.as(s.Admin()).MetalStackMachines(s.Namespace)
	s.eventually(func(ctx context.Context) error {
		began := time.Now()
		_, err := machines.Create(ctx, pausedMachine("node-1"), metav1.CreateOptions{DryRun: dryRun})
		if err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
			return fmt.Errorf("want a timeout, got %v", err)
		}
		assert.GreaterOrEqual(s.t, time.Since(began), time.Second)
		assert.Less(s.t, time.Since(began), 20*time.Second, "it is bounded by timeoutSeconds")
		return nil
	})
	ignored := s.as(s.Admin()).MetalStackClusterTemplates(s.Namespace)
	_, err = ignored.Create(s.t.Context(), &v1alpha4.MetalStackClusterTemplate{
		ObjectMeta: metav1.ObjectMeta{Name: "ignored"},
		Spec:       v1alpha4.MetalStackClusterTemplateSpec{Template: v1alpha4.MetalStackClusterTemplateResource{Spec: objects.Cluster("x").Spec}},
	}, metav1.CreateOptions{})
	require.NoError(s.t, err, "failurePolicy Ignore")

	// While calls hang, requests that they do not concern are answered.
	const hanging = 20
	var calls sync.WaitGroup
	var answered atomic.Int32
	firewalls := s.as(s.Admin()).MetalStackFirewalls(s.Namespace)
	for i := range hanging {
		calls.Go(func() {
			firewall := objects.Firewall(fmt.Sprintf("hangs-%d", i), func(f *v1alpha4.MetalStackFirewall) {
				f.Spec.Partition, f.Annotations = simulator.DefaultPartition, paused()
			})
			_, err := firewalls.Create(s.t.Context(), firewall, metav1.CreateOptions{DryRun: dryRun})
			assert.NoError(s.t, err)
			answered.Add(1)
		})
	}
	s.eventually(func(context.Context) error {
		if n := len(hook.requests("/hold")); n < hanging {
			return fmt.Errorf("%d calls are in the webhook", n)
		}
		return nil
	})
	_, err = s.as(s.Admin()).MetalStackClusters(s.Namespace).Create(s.t.Context(), objects.Cluster("c", func(c *v1alpha4.MetalStackCluster) { c.Annotations = paused() }), metav1.CreateOptions{})
	require.NoError(s.t, err)
	_, err = machines.List(s.t.Context(), metav1.ListOptions{})
	require.NoError(s.t, err)
	assert.Zero(s.t, answered.Load(), "the calls hang all the while")
	end()
	calls.Wait()
}
