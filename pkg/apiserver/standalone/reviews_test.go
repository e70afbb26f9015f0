// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/server"
)

var (
	administrator = &user.DefaultInfo{Name: "admin", Groups: []string{user.SystemPrivilegedGroup}}
	otherUser     = &user.DefaultInfo{Name: "other", Extra: map[string][]string{"a": {"b"}}}
)

func TestSelfSubjectReviews_AnswerByTheAuthorizer(t *testing.T) {
	t.Parallel()
	var info server.AuthorizationInfo
	require.NoError(t, Authorize(&info))
	machines := authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Resource: "metalstackmachines"}}
	health := authorizationv1.SelfSubjectAccessReviewSpec{NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: "get", Path: "/healthz"}}
	for _, c := range []struct {
		who  user.Info
		spec authorizationv1.SelfSubjectAccessReviewSpec
		want bool
	}{
		{administrator, machines, true}, {administrator, health, true}, {otherUser, machines, false}, {otherUser, health, false},
	} {
		ctx := request.WithUser(t.Context(), c.who)
		answer, err := accessReview{authorizer: info.Authorizer}.Create(ctx, &authorizationv1.SelfSubjectAccessReview{Spec: c.spec}, nil, nil)
		require.NoError(t, err)
		assert.Equal(t, c.want, answer.(*authorizationv1.SelfSubjectAccessReview).Status.Allowed, "%s %v", c.who.GetName(), c.spec)
	}
	for who, rules := range map[*user.DefaultInfo]int{administrator: 1, otherUser: 0} {
		answer, err := rulesReview{authorizer: info.Authorizer}.Create(request.WithUser(t.Context(), who), &authorizationv1.SelfSubjectRulesReview{}, nil, nil)
		require.NoError(t, err)
		assert.Len(t, answer.(*authorizationv1.SelfSubjectRulesReview).Status.ResourceRules, rules)
	}
	answer, err := selfReview{}.Create(request.WithUser(t.Context(), otherUser), &authenticationv1.SelfSubjectReview{}, nil, nil)
	require.NoError(t, err)
	assert.Equal(t, authenticationv1.UserInfo{Username: "other", Extra: map[string]authenticationv1.ExtraValue{"a": {"b"}}}, answer.(*authenticationv1.SelfSubjectReview).Status.UserInfo)
}

func TestAccessReview_RequiresExactlyOneKindOfAttributes(t *testing.T) {
	t.Parallel()
	for _, spec := range []authorizationv1.SelfSubjectAccessReviewSpec{
		{}, {ResourceAttributes: &authorizationv1.ResourceAttributes{}, NonResourceAttributes: &authorizationv1.NonResourceAttributes{}},
	} {
		_, err := accessReview{}.Create(request.WithUser(t.Context(), administrator), &authorizationv1.SelfSubjectAccessReview{Spec: spec}, nil, nil)
		assert.True(t, apierrors.IsInvalid(err), "%v", err)
		assert.ErrorContains(t, err, "exactly one of resourceAttributes and nonResourceAttributes")
	}
}
