// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	api "metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/test/framework"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// limit is how long something may take that takes moments on a quiet machine.
const limit = 2 * time.Minute

// project is the id of one of the projects of the data centre.
func project(letter string) string { return "10000000-0000-4000-8000-00000000000" + letter }

var kinds = []string{
	"metalstackclusters", "metalstackclustertemplates", "metalstackfirewalls", "metalstackips", "metalstackmachines", "metalstackmachinetemplates",
	"metalstacknetworks", "metalstackprojects",
}

// environment is an installation with both programs.
type environment struct {
	*cluster.Cluster
	sim *simulator.Simulator
}

func start(t *testing.T) *environment {
	t.Helper()
	d := simulator.DefaultDataCentre(30)
	for _, letter := range []string{"c", "d", "e", "f", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"} {
		d.Projects = append(d.Projects, simulator.Project{ID: project(letter), Name: "team-" + letter, Tenant: d.Projects[0].Tenant})
	}
	plane := controlplane.Start(t)
	c := cluster.Start(t, cluster.Options{
		ControlPlane: plane, Simulator: simulator.Config{DataCentre: d},
		ControllerManager: true, ManagerFlags: []string{"--management-cluster-url=" + plane.Admin().Host},
	})
	return &environment{c, c.Metal.Sim}
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// admin is a client of our kinds that may do everything.
func (env *environment) admin(t *testing.T) typed.InfrastructureV1alpha4Interface {
	return env.Metalstack(t, env.Admin()).InfrastructureV1alpha4()
}

// tenant makes a user that may do everything with our kinds in a namespace;
// subresources are those that it may write, too.
func (env *environment) tenant(t *testing.T, name, namespace string, subresources ...string) (versioned.Interface, *rest.Config) {
	t.Helper()
	resources := slices.Clone(kinds)
	for _, sub := range subresources {
		for _, kind := range kinds {
			resources = append(resources, kind+"/"+sub)
		}
	}
	meta := metav1.ObjectMeta{Name: name}
	rules := []rbacv1.PolicyRule{{APIGroups: []string{api.GroupName}, Resources: resources, Verbs: []string{"*"}}}
	subjects := []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: name}}
	var err error
	if namespace == metav1.NamespaceAll {
		_, err = env.Client().RbacV1().ClusterRoles().Create(soon(t), &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = env.Client().RbacV1().ClusterRoleBindings().Create(soon(t), &rbacv1.ClusterRoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}, Subjects: subjects,
		}, metav1.CreateOptions{})
	} else {
		_, err = env.Client().RbacV1().Roles(namespace).Create(soon(t), &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = env.Client().RbacV1().RoleBindings(namespace).Create(soon(t), &rbacv1.RoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name}, Subjects: subjects,
		}, metav1.CreateOptions{})
	}
	require.NoError(t, err)
	config := env.User(name)
	client := env.Metalstack(t, config)
	framework.Eventually(t, limit, func(context.Context) error {
		_, err := client.InfrastructureV1alpha4().MetalStackMachines(namespace).List(t.Context(), metav1.ListOptions{})
		return err
	})
	return client, config
}

// label binds a namespace; "" takes the label off.
func (env *environment) label(t *testing.T, namespace, project string) {
	t.Helper()
	value := "null"
	if project != "" {
		value = fmt.Sprintf("%q", project)
	}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, infrastructure.ProjectLabel, value)
	_, err := env.Client().CoreV1().Namespaces().Patch(soon(t), namespace, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	require.NoError(t, err)
}

// byHand allocates a machine as another client does, in a network of its own.
func (env *environment) byHand(t *testing.T, project string) (id, network string) {
	t.Helper()
	network, err := env.sim.AllocateNetworkFor(project, simulator.DefaultPartition, "by-hand", nil)
	require.NoError(t, err)
	id, err = env.sim.AllocateFor(simulator.AllocateRequest{
		Project: project, Name: "by-hand", Size: simulator.SmallSize, Partition: simulator.DefaultPartition, Networks: []string{network},
	})
	require.NoError(t, err)
	return id, network
}

// event waits for an Event about a namespace, and returns its note.
func (env *environment) event(t *testing.T, namespace, reason string) (note string) {
	t.Helper()
	framework.Eventually(t, limit, func(context.Context) error {
		events, err := env.Client().EventsV1().Events(metav1.NamespaceDefault).List(t.Context(), metav1.ListOptions{FieldSelector: "reason=" + reason})
		if err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.Regarding.Kind == "Namespace" && e.Regarding.Name == namespace {
				note = e.Note
				return nil
			}
		}
		return fmt.Errorf("no event %s about %s", reason, namespace)
	})
	return note
}

// names lists the machines of a namespace.
func names(ctx context.Context, client typed.InfrastructureV1alpha4Interface, namespace string, opts metav1.ListOptions) ([]string, error) {
	list, err := client.MetalStackMachines(namespace).List(ctx, opts)
	if err != nil {
		return nil, err
	}
	found := []string{}
	for _, m := range list.Items {
		found = append(found, m.Name)
	}
	return found, nil
}

// shows waits until a namespace shows exactly these machines.
func (env *environment) shows(t *testing.T, namespace string, want ...string) {
	t.Helper()
	admin := env.admin(t)
	framework.Eventually(t, limit, func(context.Context) error {
		found, err := names(t.Context(), admin, namespace, metav1.ListOptions{})
		if err == nil && !slices.Equal(found, want) {
			err = fmt.Errorf("%s shows %q, not %q", namespace, found, want)
		}
		return err
	})
}

var ofCluster = func(name string) map[string]string { return map[string]string{infrastructure.ClusterNameLabel: name} }

// warnings keeps what a client is warned of.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.texts = append(w.texts, text)
}

func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	texts := w.texts
	w.texts = nil
	return texts
}

// terminating reports whether an error says that the namespace goes, or is gone.
func terminating(err error) bool {
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || apierrors.IsNotFound(err)
}
