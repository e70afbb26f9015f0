// SPDX-License-Identifier: Apache-2.0

package visibility

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/utils/clock"
)

func TestAuthorizeDiscovered_FailsClosed(t *testing.T) {
	t.Parallel()
	var asked authorizer.Attributes
	decision, failure := authorizer.DecisionNoOpinion, error(nil)
	r := NewResolver(authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
		asked = a
		return decision, "", failure
	}), func(context.Context) (uint64, error) { return 1, nil }, clock.RealClock{})
	try := func() error {
		return r.AuthorizeDiscovered(t.Context(), &user.DefaultInfo{Name: "alice", Groups: []string{"tenants"}}, machines, "team-a", "node-1")
	}

	err := try()
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	assert.ErrorContains(t, err, `user "alice" cannot operate resource "metalstackmachines/discovered" in API group "infrastructure.cluster.x-k8s.io" in the namespace "team-a"`)
	assert.Equal(t, []string{"alice", "operate", "infrastructure.cluster.x-k8s.io", "metalstackmachines", "discovered", "team-a", "node-1"}, []string{
		asked.GetUser().GetName(), asked.GetVerb(), asked.GetAPIGroup(), asked.GetResource(), asked.GetSubresource(), asked.GetNamespace(), asked.GetName(),
	})
	assert.True(t, asked.IsResourceRequest())
	assert.Equal(t, []string{"tenants"}, asked.GetUser().GetGroups())

	decision = authorizer.DecisionDeny
	assert.True(t, apierrors.IsForbidden(try()))
	decision, failure = authorizer.DecisionNoOpinion, errors.New("the webhook is away")
	err = try()
	require.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	seconds, retry := apierrors.SuggestsClientDelay(err)
	assert.True(t, retry)
	assert.Equal(t, retryAfterSeconds, seconds)
	decision, failure = authorizer.DecisionAllow, nil
	require.NoError(t, try())
}

func TestAuthorizeReinstall_FailsClosed(t *testing.T) {
	t.Parallel()
	var asked authorizer.Attributes
	decision, failure := authorizer.DecisionNoOpinion, error(nil)
	r := NewResolver(authorizer.AuthorizerFunc(func(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
		asked = a
		return decision, "", failure
	}), func(context.Context) (uint64, error) { return 1, nil }, clock.RealClock{})
	try := func() error {
		return r.AuthorizeReinstall(t.Context(), &user.DefaultInfo{Name: "alice"}, machines, "team-a", "node-1")
	}
	err := try()
	require.True(t, apierrors.IsForbidden(err), "%v", err)
	assert.ErrorContains(t, err, `user "alice" cannot create resource "metalstackmachines/reinstall" in API group "infrastructure.cluster.x-k8s.io" in the namespace "team-a"`)
	assert.ErrorContains(t, err, "wipes the disks")
	assert.Equal(t, []string{"create", "metalstackmachines", "reinstall", "team-a", "node-1"}, []string{
		asked.GetVerb(), asked.GetResource(), asked.GetSubresource(), asked.GetNamespace(), asked.GetName(),
	})
	failure = errors.New("the webhook is away")
	assert.True(t, apierrors.IsServiceUnavailable(try()))
	decision, failure = authorizer.DecisionAllow, nil
	require.NoError(t, try())
}
