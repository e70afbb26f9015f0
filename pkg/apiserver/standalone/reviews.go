// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"context"
	"errors"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
)

var errNoUser = errors.New("request has no user")

// selfReview returns the attributes of the user, for `kubectl auth whoami`.
type selfReview struct{ review }

func (selfReview) New() runtime.Object     { return &authenticationv1.SelfSubjectReview{} }
func (selfReview) GetSingularName() string { return "selfsubjectreview" }

func (selfReview) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	who, err := validated(ctx, obj, validate)
	if err != nil {
		return nil, err
	}
	extra := map[string]authenticationv1.ExtraValue{}
	for key, values := range who.GetExtra() {
		extra[key] = values
	}
	return &authenticationv1.SelfSubjectReview{
		ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.Now()},
		Status: authenticationv1.SelfSubjectReviewStatus{UserInfo: authenticationv1.UserInfo{
			Username: who.GetName(), UID: who.GetUID(), Groups: who.GetGroups(), Extra: extra,
		}},
	}, nil
}

// accessReview returns whether the user may do something, for `kubectl auth can-i`.
type accessReview struct {
	review
	authorizer authorizer.Authorizer
}

func (accessReview) New() runtime.Object     { return &authorizationv1.SelfSubjectAccessReview{} }
func (accessReview) GetSingularName() string { return "selfsubjectaccessreview" }

func (r accessReview) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	who, err := validated(ctx, obj, validate)
	if err != nil {
		return nil, err
	}
	answer := obj.(*authorizationv1.SelfSubjectAccessReview).DeepCopy()
	question := authorizer.AttributesRecord{User: who}
	resource, other := answer.Spec.ResourceAttributes, answer.Spec.NonResourceAttributes
	switch {
	case (resource == nil) == (other == nil):
		return nil, apierrors.NewInvalid(authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview").GroupKind(), "", field.ErrorList{
			field.Invalid(field.NewPath("spec"), "", "must have exactly one of resourceAttributes and nonResourceAttributes"),
		})
	case resource != nil:
		question.ResourceRequest = true
		question.Verb, question.Namespace, question.Name = resource.Verb, resource.Namespace, resource.Name
		question.APIGroup, question.APIVersion = resource.Group, resource.Version
		question.Resource, question.Subresource = resource.Resource, resource.Subresource
	default:
		question.Verb, question.Path = other.Verb, other.Path
	}
	decision, reason, err := r.authorizer.Authorize(ctx, question)
	answer.Status = authorizationv1.SubjectAccessReviewStatus{
		Allowed: decision == authorizer.DecisionAllow, Denied: decision == authorizer.DecisionDeny, Reason: reason,
	}
	if err != nil {
		answer.Status.EvaluationError = err.Error()
	}
	return answer, nil
}

// rulesReview returns what the user may do, for `kubectl auth can-i --list`.
type rulesReview struct {
	review
	authorizer authorizer.Authorizer
}

func (rulesReview) New() runtime.Object     { return &authorizationv1.SelfSubjectRulesReview{} }
func (rulesReview) GetSingularName() string { return "selfsubjectrulesreview" }

// Create implements rest.Creater. A user may do either everything or nothing.
func (r rulesReview) Create(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc, _ *metav1.CreateOptions) (runtime.Object, error) {
	who, err := validated(ctx, obj, validate)
	if err != nil {
		return nil, err
	}
	answer := obj.(*authorizationv1.SelfSubjectRulesReview).DeepCopy()
	answer.Status = authorizationv1.SubjectRulesReviewStatus{
		ResourceRules:    []authorizationv1.ResourceRule{},
		NonResourceRules: []authorizationv1.NonResourceRule{},
	}
	decision, _, err := r.authorizer.Authorize(ctx, authorizer.AttributesRecord{
		User: who, Verb: "*", APIGroup: "*", APIVersion: "*", Resource: "*", ResourceRequest: true,
	})
	if err != nil {
		answer.Status.Incomplete, answer.Status.EvaluationError = true, err.Error()
	}
	if decision == authorizer.DecisionAllow {
		all := []string{"*"}
		answer.Status.ResourceRules = []authorizationv1.ResourceRule{{Verbs: all, APIGroups: all, Resources: all}}
		answer.Status.NonResourceRules = []authorizationv1.NonResourceRule{{Verbs: all, NonResourceURLs: all}}
	}
	return answer, nil
}

// review is what all kinds of reviews have in common: they are created, but not stored.
type review struct{}

func (review) NamespaceScoped() bool { return false }
func (review) Destroy()              {}

var (
	_ rest.Creater              = selfReview{}
	_ rest.Creater              = accessReview{}
	_ rest.Creater              = rulesReview{}
	_ rest.SingularNameProvider = selfReview{}
	_ rest.Scoper               = review{}
)

// validated returns the user of the request, if the review is valid.
func validated(ctx context.Context, obj runtime.Object, validate rest.ValidateObjectFunc) (user.Info, error) {
	who, ok := request.UserFrom(ctx)
	if !ok {
		return nil, apierrors.NewInternalError(errNoUser)
	}
	if validate != nil {
		if err := validate(ctx, obj.DeepCopyObject()); err != nil {
			return nil, err
		}
	}
	return who, nil
}
