// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/client-go/dynamic"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

const group = "infrastructure.cluster.x-k8s.io"

// aRequest is one kind of request about an object; dry is nil or DryRunAll.
type aRequest func(ctx context.Context, c dynamic.ResourceInterface, obj *unstructured.Unstructured, dry []string) error

func patch(kind types.PatchType, body string, options metav1.PatchOptions, subresources ...string) aRequest {
	return func(ctx context.Context, c dynamic.ResourceInterface, obj *unstructured.Unstructured, dry []string) error {
		options := options // Tests run beside each other.
		options.DryRun = dry
		said := strings.NewReplacer("KIND", obj.GetKind(), "API", obj.GetAPIVersion(), "NAME", obj.GetName()).Replace(body)
		_, err := c.Patch(ctx, obj.GetName(), kind, []byte(said), options, subresources...)
		return err
	}
}

var force = true

// requests are those of which a dry run answers what the real one does.
var requests = map[string]aRequest{
	"create": func(ctx context.Context, c dynamic.ResourceInterface, obj *unstructured.Unstructured, dry []string) error {
		fresh := obj.DeepCopy()
		fresh.SetResourceVersion("")
		fresh.SetUID("")
		_, err := c.Create(ctx, fresh, metav1.CreateOptions{DryRun: dry})
		return err
	},
	"replace": func(ctx context.Context, c dynamic.ResourceInterface, obj *unstructured.Unstructured, dry []string) error {
		changed := obj.DeepCopy()
		changed.SetLabels(map[string]string{"a": "b"})
		_, err := c.Update(ctx, changed, metav1.UpdateOptions{DryRun: dry})
		return err
	},
	"replace outdated": func(ctx context.Context, c dynamic.ResourceInterface, obj *unstructured.Unstructured, dry []string) error {
		outdated := obj.DeepCopy()
		outdated.SetResourceVersion("1")
		outdated.SetLabels(map[string]string{"a": "b"})
		_, err := c.Update(ctx, outdated, metav1.UpdateOptions{DryRun: dry})
		return err
	},
	"label":      patch(types.MergePatchType, `{"metadata":{"labels":{"a":"b"}}}`, metav1.PatchOptions{}),
	"annotate":   patch(types.MergePatchType, `{"metadata":{"annotations":{"a":"b"}}}`, metav1.PatchOptions{}),
	"json patch": patch(types.JSONPatchType, `[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`, metav1.PatchOptions{}),
	"apply": patch(types.ApplyPatchType, `{"apiVersion":"API","kind":"KIND","metadata":{"name":"NAME","labels":{"a":"b"}}}`,
		metav1.PatchOptions{FieldManager: "test", Force: &force}),
	"status": patch(types.MergePatchType, `{"status":{"conditions":[]}}`, metav1.PatchOptions{}, "status"),
	"delete": func(ctx context.Context, c dynamic.ResourceInterface, obj *unstructured.Unstructured, dry []string) error {
		return c.Delete(ctx, obj.GetName(), metav1.DeleteOptions{DryRun: dry})
	},
	"delete foreground": func(ctx context.Context, c dynamic.ResourceInterface, obj *unstructured.Unstructured, dry []string) error {
		policy := metav1.DeletePropagationForeground
		return c.Delete(ctx, obj.GetName(), metav1.DeleteOptions{DryRun: dry, PropagationPolicy: &policy})
	},
	"delete another uid": func(ctx context.Context, c dynamic.ResourceInterface, obj *unstructured.Unstructured, dry []string) error {
		uid := types.UID("another")
		return c.Delete(ctx, obj.GetName(), metav1.DeleteOptions{DryRun: dry, Preconditions: &metav1.Preconditions{UID: &uid}})
	},
	"delete collection": func(ctx context.Context, c dynamic.ResourceInterface, obj *unstructured.Unstructured, dry []string) error {
		return c.DeleteCollection(ctx, metav1.DeleteOptions{DryRun: dry}, metav1.ListOptions{FieldSelector: "metadata.name=" + obj.GetName()})
	},
	"allocate": func(ctx context.Context, c dynamic.ResourceInterface, obj *unstructured.Unstructured, dry []string) error {
		body := &unstructured.Unstructured{Object: map[string]any{"apiVersion": obj.GetAPIVersion(), "kind": "Allocation", "metadata": map[string]any{"name": obj.GetName()}}}
		_, err := c.Create(ctx, body, metav1.CreateOptions{DryRun: dry}, "allocation")
		return err
	},
	"allocate another": func(ctx context.Context, c dynamic.ResourceInterface, obj *unstructured.Unstructured, dry []string) error {
		body := &unstructured.Unstructured{Object: map[string]any{"apiVersion": obj.GetAPIVersion(), "kind": "Allocation", "metadata": map[string]any{"name": obj.GetName(), "uid": "another"}}}
		_, err := c.Create(ctx, body, metav1.CreateOptions{DryRun: dry}, "allocation")
		return err
	},
	"release": func(ctx context.Context, c dynamic.ResourceInterface, obj *unstructured.Unstructured, dry []string) error {
		return c.Delete(ctx, obj.GetName(), metav1.DeleteOptions{DryRun: dry}, "allocation")
	},
}

// said is what distinguishes one answer from another.
func said(err error) string {
	if err == nil {
		return "yes"
	}
	status, ok := err.(apierrors.APIStatus)
	if !ok {
		return err.Error()
	}
	return fmt.Sprintf("%d %s: %s", status.Status().Code, status.Status().Reason, status.Status().Message)
}

// A dry run goes through every check: whatever is asked of whatever object, it
// answers what the real request does right after it.
func TestDryRun_AnswersWhatTheRealRequestWould(t *testing.T) {
	t.Parallel()
	s := testserver.Start(t, testserver.Options{Memory: true})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	objects := dryRunObjects(t, s)
	for state, objectOf := range objects {
		for name, ask := range requests {
			for _, kind := range []string{"MetalStackMachine", "MetalStackFirewall", "MetalStackCluster", "MetalStackMachineTemplate", "MetalStackClusterTemplate", "MetalStackRemediation", "MetalStackRemediationTemplate"} {
				t.Run(state+"/"+name+"/"+kind, func(t *testing.T) {
					c, obj := objectOf(t, kind)
					if obj == nil {
						return // there is no such object
					}
					for {
						dry := said(ask(ctx, c, obj, []string{metav1.DryRunAll}))
						if state == "unbound" {
							assert.Equal(t, said(ask(ctx, c, obj, nil)), dry)
							return
						}
						now, err := c.Get(ctx, obj.GetName(), metav1.GetOptions{})
						require.NoError(t, err, "a dry run changes nothing")
						assert.Equal(t, withoutRevision(t, obj), withoutRevision(t, now), "a dry run changes nothing")
						real := said(ask(ctx, c, obj, nil))
						if strings.Contains(real, registry.OptimisticLockErrorMsg) {
							// Metal observed meanwhile changes the object's status.
							if now, err = c.Get(ctx, obj.GetName(), metav1.GetOptions{}); err == nil && now.GetResourceVersion() != obj.GetResourceVersion() {
								obj = now
								continue
							}
						}
						assert.Equal(t, real, dry)
						return
					}
				})
			}
		}
	}
}

// withoutRevision is an object without what changes by itself.
func withoutRevision(t *testing.T, obj *unstructured.Unstructured) string {
	t.Helper()
	obj = obj.DeepCopy()
	obj.SetResourceVersion("")
	unstructured.RemoveNestedField(obj.Object, "status")
	data, err := json.Marshal(obj.Object)
	require.NoError(t, err)
	return string(data)
}

// dryRunObjects make an object of a kind in some state; nil if a kind has none.
func dryRunObjects(t *testing.T, s *testserver.Server) map[string]func(t *testing.T, kind string) (dynamic.ResourceInterface, *unstructured.Unstructured) {
	client, n := s.Dynamic(), 0
	in := func(namespace, kind string) dynamic.ResourceInterface {
		return client.Resource(schema.GroupVersionResource{Group: group, Version: "v1alpha4", Resource: strings.ToLower(kind) + "s"}).Namespace(namespace)
	}
	object := func(kind string, change ...func(*unstructured.Unstructured)) *unstructured.Unstructured {
		n++
		spec := map[string]any{"image": simulator.MachineImage, "machineType": simulator.SmallSize}
		switch kind {
		case "MetalStackFirewall":
			spec["image"] = simulator.FirewallImage
		case "MetalStackCluster":
			spec = map[string]any{"partition": simulator.DefaultPartition, "publicNetworkID": simulator.InternetNetwork}
		case "MetalStackMachineTemplate":
			spec = map[string]any{"template": map[string]any{"spec": spec}}
		case "MetalStackClusterTemplate":
			spec = map[string]any{"template": map[string]any{"spec": map[string]any{"partition": simulator.DefaultPartition}}}
		case "MetalStackRemediation":
			spec = map[string]any{"strategy": map[string]any{"retryLimit": int64(2)}}
		case "MetalStackRemediationTemplate":
			spec = map[string]any{"template": map[string]any{"spec": map[string]any{"strategy": map[string]any{"retryLimit": int64(2)}}}}
		}
		obj := &unstructured.Unstructured{Object: map[string]any{"apiVersion": group + "/v1alpha4", "kind": kind, "spec": spec}}
		obj.SetName(fmt.Sprintf("x-%d", n))
		for _, c := range change {
			c(obj)
		}
		return obj
	}
	create := func(t *testing.T, kind string, change ...func(*unstructured.Unstructured)) (dynamic.ResourceInterface, *unstructured.Unstructured) {
		t.Helper()
		c := in(testserver.NamespaceA, kind)
		obj, err := c.Create(t.Context(), object(kind, change...), metav1.CreateOptions{})
		require.NoError(t, err)
		return c, obj
	}
	discovered := map[string]string{}
	for kind, firewall := range map[string]bool{"MetalStackMachine": false, "MetalStackFirewall": true} {
		network, err := s.Metal.Sim.AllocateNetworkFor(simulator.ProjectA, simulator.DefaultPartition, "theirs", nil)
		require.NoError(t, err)
		discovered[kind], err = s.Metal.Sim.AllocateFor(simulator.AllocateRequest{
			Project: simulator.ProjectA, Name: "theirs", Hostname: "theirs", Size: simulator.SmallSize, Partition: simulator.DefaultPartition,
			Networks: []string{network}, Firewall: firewall,
		})
		require.NoError(t, err)
	}
	ids := s.Metal.Sim.MachineIDs()
	large := ids[len(ids)-1] // an idle machine of another size than is asked for
	return map[string]func(*testing.T, string) (dynamic.ResourceInterface, *unstructured.Unstructured){
		"discovered": func(t *testing.T, kind string) (dynamic.ResourceInterface, *unstructured.Unstructured) {
			c := in(testserver.NamespaceA, kind)
			if discovered[kind] == "" {
				return c, nil
			}
			var obj *unstructured.Unstructured
			require.Eventually(t, func() (found bool) {
				var err error
				obj, err = c.Get(t.Context(), discovered[kind], metav1.GetOptions{})
				return err == nil
			}, time.Minute, 50*time.Millisecond)
			return c, obj
		},
		"managed": func(t *testing.T, kind string) (dynamic.ResourceInterface, *unstructured.Unstructured) {
			return create(t, kind)
		},
		"adopting": func(t *testing.T, kind string) (dynamic.ResourceInterface, *unstructured.Unstructured) {
			if kind != "MetalStackMachine" {
				return nil, nil
			}
			c, obj := create(t, kind, func(obj *unstructured.Unstructured) {
				_ = unstructured.SetNestedField(obj.Object, "metal://"+simulator.DefaultPartition+"/"+large, "spec", "providerID")
				_ = unstructured.SetNestedField(obj.Object, simulator.DefaultPartition, "spec", "partition")
			})
			// Of two objects the second may not name the same machine.
			t.Cleanup(func() {
				ctx := context.WithoutCancel(t.Context())
				_ = requests["release"](ctx, c, obj, nil)
				_ = c.Delete(ctx, obj.GetName(), metav1.DeleteOptions{})
				_, _ = c.Patch(ctx, obj.GetName(), types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
			})
			return c, obj
		},
		"allocated": func(t *testing.T, kind string) (dynamic.ResourceInterface, *unstructured.Unstructured) {
			if kind != "MetalStackCluster" {
				return nil, nil
			}
			c, obj := create(t, kind)
			require.NoError(t, requests["allocate"](t.Context(), c, obj, nil))
			obj, err := c.Get(t.Context(), obj.GetName(), metav1.GetOptions{})
			require.NoError(t, err)
			return c, obj
		},
		"being deleted": func(t *testing.T, kind string) (dynamic.ResourceInterface, *unstructured.Unstructured) {
			c, obj := create(t, kind, func(obj *unstructured.Unstructured) { obj.SetFinalizers([]string{"example.org/held"}) })
			require.NoError(t, c.Delete(t.Context(), obj.GetName(), metav1.DeleteOptions{}))
			obj, err := c.Get(t.Context(), obj.GetName(), metav1.GetOptions{})
			require.NoError(t, err)
			return c, obj
		},
		"unbound": func(t *testing.T, kind string) (dynamic.ResourceInterface, *unstructured.Unstructured) {
			return in("unbound", kind), object(kind)
		},
	}
}
