// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// nameTakenError says that an object has the name of one that a cluster needs.
type nameTakenError struct{ message string }

func (e *nameTakenError) Error() string { return e.message }

// authorityError says that the certificates of the management cluster cannot be read.
type authorityError struct{ error }

func (e *authorityError) Unwrap() error { return e.error }

// waitingForToken is the condition while the token of the ServiceAccount is not there.
func (a *access) waitingForToken(cluster *v1alpha4.MetalStackCluster) *metav1.Condition {
	return a.condition(metav1.ConditionFalse, infrastructure.ReasonWaitingForToken,
		fmt.Sprintf("Secret %s has no token yet: kube-controller-manager writes it", a.token(cluster)))
}

// ensureToken ensures the ServiceAccount with its rights, and returns its token; empty if
// there is none yet.
//
// The token does not expire: metal-ccm reads it once, at its start, a firewall's user data cannot
// be changed, and some API servers limit tokens that are requested to a day. It ends with its
// Secret or its ServiceAccount.
func (r *reconciliation) ensureToken(ctx context.Context, a *access, cluster *v1alpha4.MetalStackCluster, rules []rbacv1.PolicyRule) (string, error) {
	name := a.account(cluster)
	account, err := ensureAccessObject(ctx, r, a, cluster, &corev1.ServiceAccount{
		ObjectMeta: accessMeta(cluster, name), AutomountServiceAccountToken: ptr.To(false),
	}, &corev1.ServiceAccount{}, func(is, wanted *corev1.ServiceAccount) bool {
		is.AutomountServiceAccountToken = wanted.AutomountServiceAccountToken
		return true
	})
	if err != nil {
		return "", err
	}
	_, err = ensureAccessObject(ctx, r, a, cluster, &rbacv1.Role{
		ObjectMeta: accessMeta(cluster, name), Rules: rules,
	}, &rbacv1.Role{}, func(is, wanted *rbacv1.Role) bool {
		is.Rules = wanted.Rules
		return true
	})
	if err != nil {
		return "", err
	}
	_, err = ensureAccessObject(ctx, r, a, cluster, &rbacv1.RoleBinding{
		ObjectMeta: accessMeta(cluster, name),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: cluster.Namespace}},
	}, &rbacv1.RoleBinding{}, func(is, wanted *rbacv1.RoleBinding) bool {
		is.Subjects = wanted.Subjects
		// A roleRef cannot be changed.
		return is.RoleRef == wanted.RoleRef
	})
	if err != nil {
		return "", err
	}
	wanted := &corev1.Secret{ObjectMeta: accessMeta(cluster, a.token(cluster)), Type: corev1.SecretTypeServiceAccountToken}
	wanted.Annotations = map[string]string{corev1.ServiceAccountNameKey: name}
	// The ServiceAccount is the owner, so that clusterctl does not move the Secret: it takes off
	// all annotations of what it moves, which the API server refuses for a token, and stops.
	wanted.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "v1", Kind: rbacv1.ServiceAccountKind, Name: account.Name, UID: account.UID, Controller: ptr.To(true),
	}}
	secret, err := ensureAccessObject(ctx, r, a, cluster, wanted, &corev1.Secret{}, func(is, _ *corev1.Secret) bool {
		uid := is.Annotations[corev1.ServiceAccountUIDKey]
		return (uid == "" || uid == string(account.UID)) && isTokenOf(is, account)
	})
	if err != nil {
		return "", err
	}
	return tokenOf(secret, account), nil
}

// isTokenOf returns whether a Secret is the one for the token of a ServiceAccount. After a
// restore, or when the ServiceAccount was deleted, it is that of another one.
func isTokenOf(secret *corev1.Secret, account *corev1.ServiceAccount) bool {
	return metav1.IsControlledBy(secret, account) && secret.Type == corev1.SecretTypeServiceAccountToken &&
		secret.Annotations[corev1.ServiceAccountNameKey] == account.Name
}

// tokenOf returns the token of a ServiceAccount from its Secret; empty if it is not there.
func tokenOf(secret *corev1.Secret, account *corev1.ServiceAccount) string {
	if !isTokenOf(secret, account) || secret.Annotations[corev1.ServiceAccountUIDKey] != string(account.UID) {
		return ""
	}
	return string(secret.Data[corev1.ServiceAccountTokenKey])
}

// accessMeta is the metadata of one of the objects. Its owner reference does not block the
// owner's deletion, which would take a right to the owner's finalizers.
func accessMeta(cluster *v1alpha4.MetalStackCluster, name string) metav1.ObjectMeta {
	owner := metav1.NewControllerRef(cluster, v1alpha4.SchemeGroupVersion.WithKind(clusters.kind))
	owner.BlockOwnerDeletion = nil
	return metav1.ObjectMeta{
		Namespace: cluster.Namespace, Name: name, Labels: map[string]string{infrastructure.ClusterNameLabel: clusterNameOf(cluster)},
		OwnerReferences: []metav1.OwnerReference{*owner},
	}
}

// ensureAccessObject creates an object, or corrects the one that is there if it belongs to the
// cluster, and returns what the API server has then. The object that is there is read into is.
// correct makes of it what is wanted; false if it has to be made anew. An object without a
// controller is adopted.
func ensureAccessObject[T client.Object](ctx context.Context, r *reconciliation, a *access, cluster *v1alpha4.MetalStackCluster, wanted, is T, correct func(is, wanted T) bool) (T, error) {
	err := r.live.Get(ctx, client.ObjectKeyFromObject(wanted), is)
	if apierrors.IsNotFound(err) {
		return wanted, r.createAccessObject(ctx, a, wanted)
	}
	if err != nil {
		return is, err
	}
	if err := r.checkBelongs(a, cluster, is); err != nil {
		return is, err
	}
	if named := is.GetLabels()[infrastructure.ClusterNameLabel]; named != "" && named != clusterNameOf(cluster) {
		// The label of the cluster was another one when the Secrets were named after it.
		for _, name := range a.secrets(cluster, named) {
			if slices.Contains(a.secrets(cluster, clusterNameOf(cluster)), name) {
				continue
			}
			if err := r.deleteAccessObjectNamed(ctx, a, cluster, name, &corev1.Secret{}); err != nil {
				return is, err
			}
		}
	}
	before := is.DeepCopyObject().(T)
	labels := maps.Clone(is.GetLabels())
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, wanted.GetLabels())
	is.SetLabels(labels)
	if !correct(is, wanted) {
		if err := r.deleteAccessObject(ctx, a, is); err != nil {
			return is, err
		}
		return wanted, r.createAccessObject(ctx, a, wanted)
	}
	if metav1.GetControllerOf(is) == nil {
		is.SetOwnerReferences(append(is.GetOwnerReferences(), wanted.GetOwnerReferences()...))
	}
	if apiequality.Semantic.DeepEqual(before, is) {
		return is, nil
	}
	err = r.live.Patch(ctx, is, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	return is, r.writeError("patch", is, err)
}

func (r *reconciliation) createAccessObject(ctx context.Context, a *access, obj client.Object) error {
	if err := r.live.Create(ctx, obj); err != nil {
		return r.writeError("create", obj, err)
	}
	ctrl.LoggerFrom(ctx).Info("Created an object for the "+a.description, "object", r.describe(obj))
	return nil
}

// deleteAccessObject deletes an object, unless another one has its name by now.
func (r *reconciliation) deleteAccessObject(ctx context.Context, a *access, obj client.Object) error {
	err := r.live.Delete(ctx, obj, client.Preconditions{UID: ptr.To(obj.GetUID())})
	if err != nil {
		return client.IgnoreNotFound(r.writeError("delete", obj, err))
	}
	ctrl.LoggerFrom(ctx).Info("Deleted an object for the "+a.description, "object", r.describe(obj))
	return nil
}

// deleteAccess deletes the objects that the cluster controls, the rights first. One that
// cannot be deleted does not keep the others, but for a Secret that is named after a former
// Cluster: only the labels of the ServiceAccount tell its name then.
func (r *reconciliation) deleteAccess(ctx context.Context, a *access, cluster *v1alpha4.MetalStackCluster) (errs []error) {
	account := a.account(cluster)
	secrets := a.secrets(cluster, clusterNameOf(cluster))
	current := len(secrets)
	noteLabel := func(obj client.Object) {
		named := obj.GetLabels()[infrastructure.ClusterNameLabel]
		if named == "" {
			return
		}
		for _, name := range a.secrets(cluster, named) {
			if !slices.Contains(secrets, name) {
				secrets = append(secrets, name)
			}
		}
	}
	remove := func(name string, obj client.Object) (failed bool) {
		err := r.deleteAccessObjectNamed(ctx, a, cluster, name, obj)
		if err != nil {
			errs = append(errs, err)
		}
		noteLabel(obj)
		return err != nil
	}
	remove(account, &rbacv1.RoleBinding{})
	remove(account, &rbacv1.Role{})
	remove(a.token(cluster), &corev1.Secret{})
	is := &corev1.ServiceAccount{}
	if r.live.Get(ctx, client.ObjectKey{Namespace: cluster.Namespace, Name: account}, is) == nil {
		noteLabel(is)
	}
	kept := false
	for _, name := range secrets {
		kept = remove(name, &corev1.Secret{}) || kept
	}
	if !kept || len(secrets) == current {
		remove(account, is)
	}
	return errs
}

// deleteAccessObjectNamed reads the object of a name into is, and deletes it if it is one of the
// cluster's.
func (r *reconciliation) deleteAccessObjectNamed(ctx context.Context, a *access, cluster *v1alpha4.MetalStackCluster, name string, is client.Object) error {
	err := r.live.Get(ctx, client.ObjectKey{Namespace: cluster.Namespace, Name: name}, is)
	switch {
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		// A server without the kind has no object of it.
		return nil
	case err != nil:
		return err
	case !a.controls(cluster, is):
		return nil
	}
	return r.deleteAccessObject(ctx, a, is)
}

// secretWriteError is what is said of an answer to a write of a Secret. The text of the answer
// is left out: an admission webhook or a proxy may quote the Secret in it, in base64, too.
type secretWriteError struct {
	verb, object string
	status       metav1.Status
}

func (e *secretWriteError) Error() string {
	answer := "no answer"
	if e.status.Code != 0 {
		answer = fmt.Sprintf("the API server answered %d", e.status.Code)
		if e.status.Reason != "" {
			answer += " " + string(e.status.Reason)
		}
	}
	return fmt.Sprintf("cannot %s %s: %s (its text may quote the Secret, and is left out)", e.verb, e.object, answer)
}

// Status has the code and the reason only.
func (e *secretWriteError) Status() metav1.Status { return e.status }

// writeError says what failed, and of a Secret nothing else.
func (r *reconciliation) writeError(verb string, obj client.Object, err error) error {
	if _, isSecret := obj.(*corev1.Secret); !isSecret || err == nil || meta.IsNoMatchError(err) {
		return err
	}
	said := &secretWriteError{verb: verb, object: r.describe(obj)}
	var answer apierrors.APIStatus
	if errors.As(err, &answer) {
		said.status = metav1.Status{Status: metav1.StatusFailure, Code: answer.Status().Code, Reason: answer.Status().Reason}
	}
	return said
}

// controls reports whether the cluster controls an object, or its ServiceAccount does, by
// whatever uid.
func (a *access) controls(cluster *v1alpha4.MetalStackCluster, obj client.Object) bool {
	controller := metav1.GetControllerOf(obj)
	return controller != nil && (controller.UID == cluster.UID || a.isAccount(cluster, controller))
}

// checkBelongs returns an error unless an object is one of the cluster's. One that was restored
// without its controller has the cluster's label.
func (r *reconciliation) checkBelongs(a *access, cluster *v1alpha4.MetalStackCluster, obj client.Object) error {
	isOrphan := metav1.GetControllerOf(obj) == nil && obj.GetLabels()[infrastructure.ClusterNameLabel] == clusterNameOf(cluster)
	switch {
	case !isOrphan && !a.controls(cluster, obj):
		return &nameTakenError{fmt.Sprintf("%s already exists and does not belong to this cluster (%s): delete it", r.describe(obj), describeController(obj))}
	case obj.GetDeletionTimestamp() != nil:
		return &nameTakenError{fmt.Sprintf("%s is being deleted, and is made again when it is gone", r.describe(obj))}
	}
	return nil
}

// describe is the kind and name of an object.
func (r *reconciliation) describe(obj client.Object) string {
	gvk, err := apiutil.GVKForObject(obj, r.live.Scheme())
	if err != nil {
		return obj.GetName()
	}
	return gvk.Kind + " " + obj.GetName()
}
