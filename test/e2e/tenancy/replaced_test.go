// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/objects"
)

// leaveBehind gives a namespace a cluster and a machine, and then finalizes it by
// force, as administrators do when its deletion does not end. Everything in it is paused,
// so that it is marked and not released.
func (env *environment) leaveBehind(t *testing.T, ns, project string) (c *api.MetalStackCluster, m *api.MetalStackMachine) {
	t.Helper()
	env.Bind(t, ns, project)
	admin := env.admin(t)
	_, err := admin.MetalStackClusters(ns).Create(soon(t), objects.Cluster("old"), metav1.CreateOptions{})
	require.NoError(t, err)
	member := objects.Machine("old")
	member.Labels = ofCluster("old")
	_, err = admin.MetalStackMachines(ns).Create(soon(t), member, metav1.CreateOptions{})
	require.NoError(t, err)
	framework.Eventually(t, limit, func(context.Context) error {
		if m, err = admin.MetalStackMachines(ns).Get(t.Context(), "old", metav1.GetOptions{}); err != nil {
			return err
		}
		if m.Status.Allocation == nil || m.Status.Allocation.Phase != api.AllocationAllocated {
			return errors.New("the machine is not allocated")
		}
		return nil
	})
	paused := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:""}}}`, infrastructure.PausedAnnotation)
	m, err = admin.MetalStackMachines(ns).Patch(soon(t), "old", types.MergePatchType, paused, metav1.PatchOptions{})
	require.NoError(t, err)
	c, err = admin.MetalStackClusters(ns).Patch(soon(t), "old", types.MergePatchType, paused, metav1.PatchOptions{})
	require.NoError(t, err)

	require.NoError(t, env.Client().CoreV1().Namespaces().Delete(soon(t), ns, metav1.DeleteOptions{}))
	framework.Eventually(t, limit, func(context.Context) error {
		m, err := admin.MetalStackMachines(ns).Get(t.Context(), "old", metav1.GetOptions{})
		if err == nil && m.DeletionTimestamp == nil {
			err = errors.New("the end of the namespace has not reached the machine")
		}
		if apierrors.IsNotFound(err) {
			live, gone := env.Client().CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
			err = fmt.Errorf("%w; its namespace: %v, %v; metal: %q", err, gone, live.Status, env.metalOf(project))
		}
		return err
	})
	framework.Eventually(t, limit, func(context.Context) error {
		c, err := admin.MetalStackClusters(ns).Get(t.Context(), "old", metav1.GetOptions{})
		if err == nil && c.DeletionTimestamp == nil {
			err = errors.New("the end of the namespace has not reached the cluster")
		}
		return err
	})
	framework.Eventually(t, limit, func(context.Context) error {
		live, err := env.Client().CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		if err != nil {
			return err
		}
		live.Spec.Finalizers = nil
		_, err = env.Client().CoreV1().Namespaces().Finalize(t.Context(), live, metav1.UpdateOptions{})
		return err
	})
	framework.Eventually(t, limit, func(context.Context) error {
		_, err := env.Client().CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("the namespace is still there: %v", err)
	})
	return c, m
}

func recreatedNamespaceHidesOldRecords(t *testing.T, env *environment) {
	const ns = "anew"
	c, m := env.leaveBehind(t, ns, project("2"))
	assert.Contains(t, env.event(t, ns, tenancy.ReasonAbandoned), "project "+project("2"))
	framework.Eventually(t, limit, func(context.Context) error { return env.counted(t, "metalstack_tenancy_abandoned_namespaces 1") })
	env.shows(t, ns)
	held := env.metalOf(project("2"))

	// Another tenant, who may even allocate and release.
	env.Bind(t, ns, project("3"))
	found, _ := env.byHand(t, project("3"))
	// By a ClusterRole: the namespace controller, which is not done with the former
	// Namespace yet, deletes Roles in the name, too.
	tenant, _ := env.tenant(t, "heidi", metav1.NamespaceAll, "allocation", "status")
	heidi := tenant.InfrastructureV1alpha4()
	resource := func(sub ...string) *rest.Request {
		return heidi.RESTClient().Delete().Namespace(ns).Resource("metalstackmachines").Name("old").SubResource(sub...)
	}
	ctx := soon(t)
	for name, try := range map[string]func() error{
		"get": func() error { _, err := heidi.MetalStackMachines(ns).Get(ctx, "old", metav1.GetOptions{}); return err },
		"get from the cache": func() error {
			_, err := heidi.MetalStackMachines(ns).Get(ctx, "old", metav1.GetOptions{ResourceVersion: "0"})
			return err
		},
		"get of the past": func() error {
			_, err := heidi.MetalStackMachines(ns).Get(ctx, "old", metav1.GetOptions{ResourceVersion: m.ResourceVersion})
			return err
		},
		"patch": func() error {
			_, err := heidi.MetalStackMachines(ns).Patch(ctx, "old", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
			return err
		},
		"patch of the status": func() error {
			_, err := heidi.MetalStackMachines(ns).Patch(ctx, "old", types.MergePatchType, []byte(`{"status":{"ready":true}}`), metav1.PatchOptions{}, "status")
			return err
		},
		"update": func() error {
			_, err := heidi.MetalStackMachines(ns).Update(ctx, m, metav1.UpdateOptions{})
			return err
		},
		"delete":  func() error { return heidi.MetalStackMachines(ns).Delete(ctx, "old", metav1.DeleteOptions{}) },
		"release": func() error { return resource("allocation").Do(ctx).Error() },
		"allocate": func() error {
			return heidi.RESTClient().Post().Namespace(ns).Resource("metalstackmachines").Name("old").SubResource("allocation").Body(&api.Allocation{}).Do(ctx).Error()
		},
		"delete the cluster": func() error { return heidi.MetalStackClusters(ns).Delete(ctx, "old", metav1.DeleteOptions{}) },
	} {
		err := try()
		require.True(t, apierrors.IsNotFound(err), "%s: %v", name, err)
		assert.NotContains(t, err.Error(), project("2"), name)
	}
	for name, try := range map[string]func() error{
		"create": func() error {
			_, err := heidi.MetalStackMachines(ns).Create(ctx, objects.Machine("old"), metav1.CreateOptions{})
			return err
		},
		"apply": func() error {
			_, err := heidi.MetalStackMachines(ns).Patch(ctx, "old", types.ApplyPatchType,
				[]byte(`{"apiVersion":"`+api.SchemeGroupVersion.String()+`","kind":"MetalStackMachine","metadata":{"name":"old"}}`), metav1.PatchOptions{FieldManager: "heidi"})
			return err
		},
	} {
		err := try()
		require.True(t, apierrors.IsForbidden(err), "%s: %v", name, err)
		require.ErrorContains(t, err, "objects of an earlier namespace of this name were left behind", name)
		assert.NotContains(t, err.Error(), project("2"), name)
	}
	require.NoError(t, heidi.MetalStackMachines(ns).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	for _, opts := range []metav1.ListOptions{{}, {ResourceVersion: "0"}, {Limit: 1}, {FieldSelector: "metadata.name=old"}} {
		list, err := names(ctx, heidi, ns, opts)
		require.NoError(t, err)
		assert.Empty(t, list, "not even what was discovered: the namespace is not bound (%s)", found)
	}
	list, err := names(ctx, heidi, ns, metav1.ListOptions{ResourceVersion: m.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact})
	if err == nil {
		assert.Empty(t, list)
	}
	require.ErrorContains(t, replay(ctx, heidi.MetalStackMachines(ns).Watch, m.ResourceVersion), "Expired")
	require.ErrorContains(t, replay(ctx, heidi.MetalStackClusters(ns).Watch, c.ResourceVersion), "Expired")
	// The project is not bound elsewhere, where its metal would be nobody's.
	env.Bind(t, "anew-elsewhere", project("2"))
	assert.Contains(t, env.event(t, "anew-elsewhere", tenancy.ReasonTaken), `has objects of the namespace "anew", which was deleted`)
	env.shows(t, "anew-elsewhere")
	assert.Equal(t, held, env.metalOf(project("2")))

	// The same tenant has them back, and nothing that was marked goes by itself.
	env.label(t, ns, project("2"))
	env.shows(t, ns, "old")
	env.event(t, ns, tenancy.ReasonTakenOver)
	admin := env.admin(t)
	_, err = admin.MetalStackMachines(ns).Patch(soon(t), "old", types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, infrastructure.PausedAnnotation), metav1.PatchOptions{})
	require.NoError(t, err)
	framework.Eventually(t, limit, func(context.Context) error {
		m, err := admin.MetalStackMachines(ns).Get(t.Context(), "old", metav1.GetOptions{})
		if err != nil {
			return err
		}
		deleting := meta.FindStatusCondition(m.Status.Conditions, infrastructure.ConditionDeleting)
		if deleting == nil || deleting.Reason != infrastructure.ReasonMarkedBeforeTakeover || !strings.Contains(deleting.Message, "keeps its metal until it has the annotation "+infrastructure.ForceReleaseAnnotation) {
			return fmt.Errorf("Deleting is %v", deleting)
		}
		return nil
	})
	assert.Equal(t, held, env.metalOf(project("2")))
	insist := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null,%q:"true"}}}`, infrastructure.PausedAnnotation, infrastructure.ForceReleaseAnnotation)
	_, err = admin.MetalStackMachines(ns).Patch(soon(t), "old", types.MergePatchType, insist, metav1.PatchOptions{})
	require.NoError(t, err)
	_, err = admin.MetalStackClusters(ns).Patch(soon(t), "old", types.MergePatchType, insist, metav1.PatchOptions{})
	require.NoError(t, err)
	// The controller manager asks again after pauses that grow while the machine is held.
	framework.Eventually(t, 3*limit, func(context.Context) error { return env.holds(project("2"), 0, 0) })
}

// replay watches from a revision, and returns the error by which the watch ends;
// it is an error, too, if there is an event before.
func replay(ctx context.Context, begin func(context.Context, metav1.ListOptions) (watch.Interface, error), revision string) error {
	w, err := begin(ctx, metav1.ListOptions{ResourceVersion: revision})
	if err != nil {
		return err
	}
	defer w.Stop()
	select {
	case e := <-w.ResultChan():
		if status, ok := e.Object.(*metav1.Status); ok {
			return errors.New(string(status.Reason))
		}
		return fmt.Errorf("an event: %v", e)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// counted reports whether the server shows a metric with its value.
func (env *environment) counted(t *testing.T, metric string) error {
	config := rest.CopyConfig(env.Admin())
	config.TLSClientConfig.Insecure, config.TLSClientConfig.CAData, config.TLSClientConfig.CAFile = true, nil, ""
	client, err := rest.HTTPClientFor(config)
	require.NoError(t, err)
	answer, err := client.Get(env.Servers[0].URL + "/metrics")
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && !strings.Contains(string(text), "\n"+metric+"\n") {
		err = fmt.Errorf("%s: no %s", answer.Status, metric)
	}
	return err
}

// abandonedRecordsSetAside is what docs/operations.md says of records whose
// name belongs to another tenant by now.
func abandonedRecordsSetAside(t *testing.T, env *environment) {
	const ns = "aside"
	_, m := env.leaveBehind(t, ns, project("4"))
	env.event(t, ns, tenancy.ReasonAbandoned)
	held := env.metalOf(project("4"))
	env.Bind(t, ns, "")
	env.Bind(t, "aside-elsewhere", project("4"))
	env.Servers[0].Stop(t)
	const label = "metal-stack.infrastructure.cluster.x-k8s.io/record"
	_, stderr, err := env.Kubectl(t, env.Admin(), "-n", "metal-stack-system", "label", "configmaps", "-l", label+"-namespace="+ns, label+"-")
	require.NoError(t, err, stderr)
	env.Servers[0].Start(t)
	env.Servers[0].AwaitReady(t)
	env.AwaitAvailable(t)
	env.shows(t, "aside-elsewhere", m.Status.Allocation.MachineID)
	env.shows(t, ns)
	assert.Equal(t, held, env.metalOf(project("4")), "their metal stays")
	framework.Eventually(t, limit, func(context.Context) error {
		_, err := env.admin(t).MetalStackClusters("aside-elsewhere").Create(t.Context(), objects.Cluster("c"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	})
}

// lostBindingsRecordsStayHidden: what was written down of bindings is lost
// alone, and only the records say of which Namespace they are.
func lostBindingsRecordsStayHidden(t *testing.T, env *environment) {
	const ns, key = "lost", "metal-stack.infrastructure.cluster.x-k8s.io/record-key"
	env.leaveBehind(t, ns, project("5"))
	env.event(t, ns, tenancy.ReasonAbandoned)
	held := env.metalOf(project("5"))
	env.Servers[0].Stop(t)
	env.Bind(t, ns, project("6"))
	found, _ := env.byHand(t, project("6"))
	records, err := env.Client().CoreV1().ConfigMaps("metal-stack-system").List(soon(t), metav1.ListOptions{})
	require.NoError(t, err)
	deleted := 0
	for _, r := range records.Items {
		if r.Annotations[key] == "_meta/bindings" {
			require.NoError(t, env.Client().CoreV1().ConfigMaps(r.Namespace).Delete(soon(t), r.Name, metav1.DeleteOptions{}))
			deleted++
		}
	}
	require.Equal(t, 1, deleted)
	require.NoError(t, env.Client().EventsV1().Events(metav1.NamespaceDefault).DeleteCollection(soon(t), metav1.DeleteOptions{}, metav1.ListOptions{}))
	env.Servers[0].Start(t)
	env.Servers[0].AwaitReady(t)
	env.AwaitAvailable(t)
	assert.Contains(t, env.event(t, ns, tenancy.ReasonAbandoned), "project "+project("5"))
	env.shows(t, ns)
	_, err = env.admin(t).MetalStackMachines(ns).Get(soon(t), "old", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
	_, err = env.admin(t).MetalStackMachines(ns).Get(soon(t), found, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "it is not bound: %v", err)
	env.label(t, ns, project("5"))
	env.shows(t, ns, "old")
	env.event(t, ns, tenancy.ReasonTakenOver)
	assert.Equal(t, held, env.metalOf(project("5")))
}
