// SPDX-License-Identifier: Apache-2.0

// Package compat_test holds what clients get of our kinds through a kube-apiserver, in each
// form in which they may ask for it: discovery, OpenAPI, watches and access reviews. `make
// compat` runs it against each supported version of Kubernetes.
package compat_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

const (
	group = infrastructure.GroupName
	// limit is how long anything may take that is waited for.
	limit = time.Minute
)

func TestMain(m *testing.M) { os.Exit(cluster.Main(m)) }

// environment is a cluster that all tests share.
type environment struct {
	*cluster.Cluster
	cluster.Team
}

func TestClients(t *testing.T) {
	t.Parallel()
	var opts cluster.Options
	env := &environment{Team: opts.AddTeams(1)[0]}
	env.Cluster = cluster.Start(t, opts)
	env.Bind(t, env.Namespace, env.Project)
	for name, test := range map[string]func(*testing.T, *environment){
		"Discovery_Aggregated": discoveryAggregated,
		"Discovery_Legacy":     discoveryLegacy,
		"OpenAPI_V2":           openAPIV2,
		"OpenAPI_V3":           openAPIV3,
		"WatchList_BeginsWithEverythingAndBookmark": watchListBeginsWithEverythingAndBookmark,
		"Informers_WithAndWithoutWatchList":         informersWithAndWithoutWatchList,
		"CanI_AnswersAsRolesSay":                    canIAnswersAsRolesSay,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, env)
		})
	}
}

// canIAnswersAsRolesSay asks as kubectl auth can-i does, for a user who has the role view.
func canIAnswersAsRolesSay(t *testing.T, env *environment) {
	_, err := env.Client().RbacV1().RoleBindings(env.Namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "viewer"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "victor"}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "view"},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	// The cluster aggregates our rules into its role some time after they are there.
	require.Eventually(t, func() bool {
		_, err := env.Metalstack(t, env.User("victor")).InfrastructureV1alpha4().MetalStackMachines(env.Namespace).List(t.Context(), metav1.ListOptions{})
		return err == nil
	}, limit, 100*time.Millisecond)
	for question, want := range map[string]string{
		"list msm": "yes", "watch metalstackclusters." + group: "yes", "get metalstackmachines/x": "yes",
		"create msm": "no", "delete msc": "no", "create msm --subresource=allocation": "no", "create msm --subresource=power": "no",
	} {
		args := append([]string{"auth", "can-i", "--namespace=" + env.Namespace}, fields(question)...)
		stdout, stderr, err := env.Kubectl(t, env.User("victor"), args...)
		assert.Equal(t, want+"\n", stdout, "%s: %s", question, stderr)
		assert.Equal(t, want == "yes", err == nil, "%s: the exit code: %v", question, err)
	}
	stdout, stderr, err := env.Kubectl(t, env.User("victor"), "auth", "can-i", "--list", "--namespace="+env.Namespace)
	require.NoError(t, err, stderr)
	assert.Regexp(t, `(?m)^metalstackmachines\.infrastructure\.cluster\.x-k8s\.io +\[\] +\[\] +\[get list watch\]$`, stdout)
}
