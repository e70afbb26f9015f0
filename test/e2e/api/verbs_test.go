// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"

	"metal-stack.io/infrastructure-apiserver/generated/applyconfiguration/infrastructure/v1alpha4"
)

func TestMachine_CreateReadUpdateDelete(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	machines := env.machines(teamA)

	created, err := machines.Create(ctx, machine("node-1"), metav1.CreateOptions{})
	require.NoError(t, err)
	require.NotEmpty(t, created.UID)
	require.EqualValues(t, 1, created.Generation)

	got, err := machines.Get(ctx, "node-1", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, created.Spec, got.Spec)
	require.Equal(t, "Pending", got.Status.Metal.Phase)

	got.Labels = map[string]string{"color": "red"}
	updated, err := machines.Update(ctx, got, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.Greater(t, revision(t, updated), revision(t, created), "revisions go up")
	require.EqualValues(t, 1, updated.Generation, "a label is no new generation")

	_, err = machines.Update(ctx, created, metav1.UpdateOptions{})
	require.True(t, apierrors.IsConflict(err), "a stale update is refused: %v", err)

	require.NoError(t, machines.Delete(ctx, "node-1", metav1.DeleteOptions{}))
	got, err = machines.Get(ctx, "node-1", metav1.GetOptions{})
	require.NoError(t, err, "delete marks; the finalizer keeps the object")
	require.NotNil(t, got.DeletionTimestamp)

	env.dropFinalizers(t, teamA, "node-1")
	_, err = machines.Get(ctx, "node-1", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "%v", err)
}

func TestList_PagesAreOneSnapshot(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	machines := env.machines(teamA)
	for i := range 7 {
		_, err := machines.Create(ctx, machine(fmt.Sprintf("node-%d", i)), metav1.CreateOptions{})
		require.NoError(t, err)
	}
	page, err := machines.List(ctx, metav1.ListOptions{Limit: 3})
	require.NoError(t, err)
	require.Len(t, page.Items, 3)
	require.EqualValues(t, 4, *page.RemainingItemCount)

	_, err = machines.Create(ctx, machine("node-11"), metav1.CreateOptions{})
	require.NoError(t, err, "in between")
	names := namesOf(page.Items)
	for page.Continue != "" {
		next, err := machines.List(ctx, metav1.ListOptions{Limit: 3, Continue: page.Continue})
		require.NoError(t, err)
		require.Equal(t, page.ResourceVersion, next.ResourceVersion)
		names = append(names, namesOf(next.Items)...)
		page = next
	}
	require.Equal(t, []string{"node-0", "node-1", "node-2", "node-3", "node-4", "node-5", "node-6"}, names)
}

func TestList_SelectsByLabelAndField(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	machines := env.machines(teamA)
	red := machine("red")
	red.Labels = map[string]string{"color": "red"}
	named := machine("named")
	named.Spec.ProviderID = "metalstack://" + env.waitingMachine(t)
	for _, m := range []*machineT{red, named} {
		_, err := machines.Create(ctx, m, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	for selector, want := range map[metav1.ListOptions][]string{
		{LabelSelector: "color=red"}:                                          {"red"},
		{FieldSelector: "spec.providerID=" + named.Spec.ProviderID}:           {"named"},
		{FieldSelector: "metadata.name=red"}:                                  {"red"},
		{FieldSelector: "status.ready=false"}:                                 {"named", "red"},
		{FieldSelector: "status.ready=true"}:                                  nil,
		{FieldSelector: "status.metal.phase=Pending", LabelSelector: "color"}: {"red"},
	} {
		list, err := machines.List(ctx, selector)
		require.NoError(t, err, "%v", selector)
		require.ElementsMatch(t, want, namesOf(list.Items), "%v", selector)
	}
	_, err := machines.List(ctx, metav1.ListOptions{FieldSelector: "spec.color=red"})
	require.True(t, apierrors.IsBadRequest(err), "%v", err)
	require.ErrorContains(t, err, "spec.color")
}

func TestServerSideApply_TracksOwnersAndConflicts(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	machines := env.machines(teamA)
	config := func(image string) *v1alpha4.MetalStackMachineApplyConfiguration {
		return v1alpha4.MetalStackMachine("node-1", teamA).WithLabels(map[string]string{"color": "red"}).
			WithSpec(v1alpha4.MetalStackMachineSpec().WithImage(image).WithMachineType(small).WithPartition(partition))
	}
	first, err := machines.Apply(ctx, config(image), metav1.ApplyOptions{FieldManager: "alice"})
	require.NoError(t, err, "apply creates")
	again, err := machines.Apply(ctx, config(image), metav1.ApplyOptions{FieldManager: "alice"})
	require.NoError(t, err)
	require.Equal(t, first.ResourceVersion, again.ResourceVersion, "applying the same again writes nothing")

	_, err = machines.Apply(ctx, config(otherImage), metav1.ApplyOptions{FieldManager: "bob"})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.ErrorContains(t, err, "alice")
	forced, err := machines.Apply(ctx, config(otherImage), metav1.ApplyOptions{FieldManager: "bob", Force: true})
	require.NoError(t, err)
	require.Equal(t, otherImage, forced.Spec.Image)
	require.True(t, slices.ContainsFunc(forced.ManagedFields, func(f metav1.ManagedFieldsEntry) bool {
		return f.Manager == "bob" && f.Operation == metav1.ManagedFieldsOperationApply
	}))
}

func TestDryRun_ChangesNothing(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	machines := env.machines(teamA)
	all := []string{metav1.DryRunAll}

	_, err := machines.Create(ctx, machine("ghost"), metav1.CreateOptions{DryRun: all})
	require.NoError(t, err)
	_, err = machines.Get(ctx, "ghost", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err))

	real, err := machines.Create(ctx, machine("real"), metav1.CreateOptions{})
	require.NoError(t, err)
	changed := real.DeepCopy()
	changed.Labels = map[string]string{"color": "red"}
	answer, err := machines.Update(ctx, changed, metav1.UpdateOptions{DryRun: all})
	require.NoError(t, err)
	require.Equal(t, "red", answer.Labels["color"])
	require.NoError(t, machines.Delete(ctx, "real", metav1.DeleteOptions{DryRun: all}))
	now, err := machines.Get(ctx, "real", metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, real.ResourceVersion, now.ResourceVersion)
}

func TestPatch_EveryType(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	machines := env.machines(teamA)
	_, err := machines.Create(ctx, machine("node-1"), metav1.CreateOptions{})
	require.NoError(t, err)
	for kind, patch := range map[types.PatchType]string{
		types.MergePatchType:          `{"metadata":{"labels":{"by":"merge"}}}`,
		types.JSONPatchType:           `[{"op":"add","path":"/metadata/labels","value":{"by":"json"}}]`,
		types.StrategicMergePatchType: `{"metadata":{"labels":{"by":"strategic"}}}`,
	} {
		patched, err := machines.Patch(ctx, "node-1", kind, []byte(patch), metav1.PatchOptions{})
		require.NoError(t, err, "%s", kind)
		require.Contains(t, string(kind), patched.Labels["by"])
	}
	_, err = machines.Patch(ctx, "node-1", types.MergePatchType,
		[]byte(`{"metadata":{"resourceVersion":"1","labels":{"by":"stale"}}}`), metav1.PatchOptions{})
	require.True(t, apierrors.IsConflict(err), "%v", err)
}

func TestTable_Columns(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	m := machine("node-1")
	m.Labels = map[string]string{"cluster.x-k8s.io/cluster-name": "c1"}
	_, err := env.machines(teamA).Create(ctx, m, metav1.CreateOptions{})
	require.NoError(t, err)

	var table metav1.Table
	raw, err := env.client.InfrastructureV1alpha4().RESTClient().Get().Namespace(teamA).Resource("metalstackmachines").
		SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").DoRaw(ctx)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &table))
	var narrow, wide []string
	for _, c := range table.ColumnDefinitions {
		if c.Priority == 0 {
			narrow = append(narrow, strings.ToUpper(c.Name))
		} else {
			wide = append(wide, strings.ToUpper(c.Name))
		}
	}
	require.Equal(t, []string{"NAME", "CLUSTER", "READY", "PHASE", "LIVELINESS", "SIZE", "ADDRESS", "AGE"}, narrow)
	require.Equal(t, []string{"PROVIDERID", "IMAGE", "PARTITION", "RACK", "ISSUES", "MANAGED"}, wide)
	require.Len(t, table.Rows, 1)
	require.Equal(t, "node-1", table.Rows[0].Cells[0])
	require.Equal(t, "c1", table.Rows[0].Cells[1])
}

func TestPartialObjectMetadata_IsServed(t *testing.T) {
	t.Parallel()
	env := start(t)
	_, err := env.machines(teamA).Create(t.Context(), machine("node-1"), metav1.CreateOptions{})
	require.NoError(t, err)
	c, err := metadata.NewForConfig(env.config)
	require.NoError(t, err)
	list, err := c.Resource(machinesGVR).Namespace(teamA).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, list.Items, 1)
	require.Equal(t, "node-1", list.Items[0].Name)
	require.NotEmpty(t, list.ResourceVersion)
}

func TestDelete_HonoursPreconditions(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	machines := env.machines(teamA)
	m, err := machines.Create(ctx, machine("node-1"), metav1.CreateOptions{})
	require.NoError(t, err)
	other := types.UID("00000000-0000-4000-8000-00000000dead")
	err = machines.Delete(ctx, "node-1", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &other}})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	stale := "1"
	err = machines.Delete(ctx, "node-1", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &stale}})
	require.True(t, apierrors.IsConflict(err), "%v", err)
	err = machines.Delete(ctx, "node-1", metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &m.UID, ResourceVersion: &m.ResourceVersion}})
	require.NoError(t, err)
}

func TestGenerateName_MakesNames(t *testing.T) {
	t.Parallel()
	env := start(t)
	m := machine("")
	m.GenerateName = "worker-"
	first, err := env.machines(teamA).Create(t.Context(), m.DeepCopy(), metav1.CreateOptions{})
	require.NoError(t, err)
	second, err := env.machines(teamA).Create(t.Context(), m.DeepCopy(), metav1.CreateOptions{})
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(first.Name, "worker-"))
	require.NotEqual(t, first.Name, second.Name)
}

func TestDeleteCollection_MarksMatchesAndSkipsDiscovered(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	machines := env.machines(teamA)
	foreign := env.somebodyElses(t, projectA)
	for _, name := range []string{"keep", "go-1", "go-2"} {
		m := machine(name)
		m.Labels = map[string]string{"fate": strings.SplitN(name, "-", 2)[0]}
		_, err := machines.Create(ctx, m, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	require.NoError(t, machines.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "fate=go"}))
	marked := func() (names []string) {
		list, err := machines.List(ctx, metav1.ListOptions{})
		require.NoError(t, err)
		for _, m := range list.Items {
			if m.DeletionTimestamp != nil {
				names = append(names, m.Name)
			}
		}
		return names
	}
	require.Equal(t, []string{"go-1", "go-2"}, marked())
	require.NoError(t, machines.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	require.ElementsMatch(t, []string{"go-1", "go-2", "keep"}, marked())
	_, err := machines.Get(ctx, foreign, metav1.GetOptions{})
	require.NoError(t, err, "discovered metal is still shown")
	require.True(t, env.allocated(foreign), "and still allocated")
}

func TestDelete_NeverReleasesMetal(t *testing.T) {
	t.Parallel()
	env := start(t)
	ctx := t.Context()
	env.allocate(t, "node-1")
	m, err := env.machines(teamA).Get(ctx, "node-1", metav1.GetOptions{})
	require.NoError(t, err)
	id := m.Status.Metal.MachineID
	require.NoError(t, env.machines(teamA).Delete(ctx, "node-1", metav1.DeleteOptions{}))
	env.dropFinalizers(t, teamA, "node-1")
	require.True(t, env.allocated(id), "stripping the finalizer costs no server")
	shown, err := env.machines(teamA).Get(ctx, id, metav1.GetOptions{})
	require.NoError(t, err, "the machine is not lost from sight")
	require.False(t, shown.Status.Metal.Managed)
	err = env.machines(teamA).Delete(ctx, id, metav1.DeleteOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, "providerID", "the refusal says what to do")
	_, err = env.machines(teamA).Patch(ctx, id, types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
}

func TestNamespace_SeesItsProjectOnly(t *testing.T) {
	t.Parallel()
	env := start(t)
	a, b := env.somebodyElses(t, projectA), env.somebodyElses(t, projectB)
	seen := func(namespace string) []string {
		list, err := env.machines(namespace).List(context.Background(), metav1.ListOptions{})
		require.NoError(t, err)
		return namesOf(list.Items)
	}
	require.Equal(t, []string{a}, seen(teamA))
	require.Equal(t, []string{b}, seen(teamB))
	require.Empty(t, seen("unbound"))
	require.ElementsMatch(t, []string{a, b}, seen(""))
	_, err := env.machines("unbound").Create(t.Context(), machine("node-1"), metav1.CreateOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	require.ErrorContains(t, err, "bind", "the refusal says how to bind the namespace")
}
