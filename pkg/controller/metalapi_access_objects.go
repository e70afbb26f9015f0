// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

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

// ensureAccess creates and corrects the objects, and returns the condition that tells how far
// it got.
func (r *reconciliation) ensureAccess(ctx context.Context, cluster *v1alpha4.MetalStackCluster, inputs accessInputs) metav1.Condition {
	token, err := r.ensureToken(ctx, cluster, inputs.names)
	if err == nil && token == "" {
		return *accessCondition(metav1.ConditionFalse, infrastructure.ReasonWaitingForToken,
			fmt.Sprintf("Secret %s has no token yet: kube-controller-manager writes it", inputs.names.token))
	}
	if err == nil {
		err = r.ensureConfig(ctx, cluster, inputs, token)
	}
	if err != nil {
		return accessFailure(err)
	}
	return *accessCondition(metav1.ConditionTrue, infrastructure.ReasonMetalAPIAccessProvided,
		fmt.Sprintf("Secret %s has what metal-ccm needs", inputs.names.config))
}

// accessFailure is the condition that tells of an error.
func accessFailure(err error) metav1.Condition {
	reason := infrastructure.ReasonMetalAPIAccessRequestFailed
	if _, ok := errors.AsType[*nameTakenError](err); ok {
		reason = infrastructure.ReasonMetalAPIAccessNameTaken
	} else if _, ok := errors.AsType[*authorityError](err); ok {
		reason = infrastructure.ReasonAuthorityUnreadable
	} else if isRefusal(err) || apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) || meta.IsNoMatchError(err) {
		reason = infrastructure.ReasonMetalAPIAccessCreationRefused
	}
	message := err.Error()
	return *accessCondition(metav1.ConditionFalse, reason, strings.ToUpper(message[:1])+message[1:])
}

// ensureToken ensures the ServiceAccount with its one right, and returns its token; empty if
// there is none yet.
//
// The token does not expire: metal-ccm reads it once, at its start, and some API servers limit
// tokens that are requested to a day. It ends with its Secret or its ServiceAccount.
func (r *reconciliation) ensureToken(ctx context.Context, cluster *v1alpha4.MetalStackCluster, names accessNames) (string, error) {
	account, err := ensureAccessObject(ctx, r, cluster, &corev1.ServiceAccount{
		ObjectMeta: accessMeta(cluster, names.account), AutomountServiceAccountToken: ptr.To(false),
	}, &corev1.ServiceAccount{}, func(is, wanted *corev1.ServiceAccount) bool {
		is.AutomountServiceAccountToken = wanted.AutomountServiceAccountToken
		return true
	})
	if err != nil {
		return "", err
	}
	_, err = ensureAccessObject(ctx, r, cluster, &rbacv1.Role{
		ObjectMeta: accessMeta(cluster, names.account),
		Rules: []rbacv1.PolicyRule{{
			APIGroups: []string{v1alpha4.GroupName}, Resources: []string{clusters.resource + "/metalapi"}, ResourceNames: []string{cluster.Name},
			Verbs: []string{"get", "create", "update", "delete"},
		}},
	}, &rbacv1.Role{}, func(is, wanted *rbacv1.Role) bool {
		is.Rules = wanted.Rules
		return true
	})
	if err != nil {
		return "", err
	}
	_, err = ensureAccessObject(ctx, r, cluster, &rbacv1.RoleBinding{
		ObjectMeta: accessMeta(cluster, names.account),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: names.account},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: names.account, Namespace: cluster.Namespace}},
	}, &rbacv1.RoleBinding{}, func(is, wanted *rbacv1.RoleBinding) bool {
		is.Subjects = wanted.Subjects
		// A roleRef cannot be changed.
		return is.RoleRef == wanted.RoleRef
	})
	if err != nil {
		return "", err
	}
	wanted := &corev1.Secret{ObjectMeta: accessMeta(cluster, names.token), Type: corev1.SecretTypeServiceAccountToken}
	wanted.Annotations = map[string]string{corev1.ServiceAccountNameKey: names.account}
	// The ServiceAccount is the owner, so that clusterctl does not move the Secret: it takes off
	// all annotations of what it moves, which the API server refuses for a token, and stops.
	wanted.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "v1", Kind: rbacv1.ServiceAccountKind, Name: account.Name, UID: account.UID, Controller: ptr.To(true),
	}}
	secret, err := ensureAccessObject(ctx, r, cluster, wanted, &corev1.Secret{}, func(is, wanted *corev1.Secret) bool {
		// After a restore, or when the ServiceAccount was deleted, it has the token of another one.
		uid := is.Annotations[corev1.ServiceAccountUIDKey]
		return metav1.IsControlledBy(is, account) && is.Type == wanted.Type && is.Annotations[corev1.ServiceAccountNameKey] == names.account &&
			(uid == "" || uid == string(account.UID))
	})
	if err != nil || secret.Annotations[corev1.ServiceAccountUIDKey] != string(account.UID) {
		return "", err
	}
	return string(secret.Data[corev1.ServiceAccountTokenKey]), nil
}

// ensureConfig ensures the Secret by which a ClusterResourceSet configures metal-ccm.
func (r *reconciliation) ensureConfig(ctx context.Context, cluster *v1alpha4.MetalStackCluster, inputs accessInputs, token string) error {
	authority := ""
	if get := r.options.ManagementCluster.Authority; get != nil {
		var err error
		if authority, err = get(); err != nil {
			return &authorityError{fmt.Errorf("failed to read the authority of the management cluster: %w", err)}
		}
	}
	manifest, err := metalCCMManifest(inputs, token, authority)
	if err != nil {
		return err
	}
	_, err = ensureAccessObject(ctx, r, cluster, &corev1.Secret{
		ObjectMeta: accessMeta(cluster, inputs.names.config), Type: resourceSetSecretType,
		Data: map[string][]byte{metalCCMKey: manifest},
	}, &corev1.Secret{}, func(is, wanted *corev1.Secret) bool {
		is.Data = wanted.Data
		return is.Type == wanted.Type
	})
	return err
}

// accessMeta is the metadata of one of the objects. Its owner reference does not block the
// owner's deletion, which would take a right to the owner's finalizers.
func accessMeta(cluster *v1alpha4.MetalStackCluster, name string) metav1.ObjectMeta {
	owner := metav1.NewControllerRef(cluster, v1alpha4.SchemeGroupVersion.WithKind(clusters.kind))
	owner.BlockOwnerDeletion = nil
	return metav1.ObjectMeta{
		Namespace: cluster.Namespace, Name: name, Labels: accessLabels(cluster), OwnerReferences: []metav1.OwnerReference{*owner},
	}
}

// ensureAccessObject creates an object, or corrects the one that is there if it belongs to the
// cluster, and returns what the API server has then. The object that is there is read into is.
// correct makes of it what is wanted; false if it has to be made anew. An object without a
// controller is adopted.
func ensureAccessObject[T client.Object](ctx context.Context, r *reconciliation, cluster *v1alpha4.MetalStackCluster, wanted, is T, correct func(is, wanted T) bool) (T, error) {
	err := r.live.Get(ctx, client.ObjectKeyFromObject(wanted), is)
	if apierrors.IsNotFound(err) {
		return wanted, r.createAccessObject(ctx, wanted)
	}
	if err != nil {
		return is, err
	}
	if err := r.checkBelongs(cluster, is); err != nil {
		return is, err
	}
	if named := is.GetLabels()[infrastructure.ClusterNameLabel]; named != "" && named != clusterNameOf(cluster) {
		// The label of the cluster was another one when the Secret was named after it.
		if err := r.deleteAccessObjectNamed(ctx, cluster, accessConfigName(named), &corev1.Secret{}); err != nil {
			return is, err
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
		if err := r.deleteAccessObject(ctx, is); err != nil {
			return is, err
		}
		return wanted, r.createAccessObject(ctx, wanted)
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

func (r *reconciliation) createAccessObject(ctx context.Context, obj client.Object) error {
	if err := r.live.Create(ctx, obj); err != nil {
		return r.writeError("create", obj, err)
	}
	ctrl.LoggerFrom(ctx).Info("Created an object for the access to the metal-api", "object", r.describe(obj))
	return nil
}

// deleteAccessObject deletes an object, unless another one has its name by now.
func (r *reconciliation) deleteAccessObject(ctx context.Context, obj client.Object) error {
	err := r.live.Delete(ctx, obj, client.Preconditions{UID: ptr.To(obj.GetUID())})
	if err != nil {
		return client.IgnoreNotFound(r.writeError("delete", obj, err))
	}
	ctrl.LoggerFrom(ctx).Info("Deleted an object for the access to the metal-api", "object", r.describe(obj))
	return nil
}

// deleteAccess deletes the objects that the cluster controls, the rights first. One that
// cannot be deleted does not keep the others, but for a Secret that is named after a former
// Cluster: only the labels of the ServiceAccount tell its name then.
func (r *reconciliation) deleteAccess(ctx context.Context, cluster *v1alpha4.MetalStackCluster) (errs []error) {
	names := accessNamesOf(cluster)
	configs := []string{names.config}
	noteLabel := func(obj client.Object) {
		named := obj.GetLabels()[infrastructure.ClusterNameLabel]
		if named != "" && !slices.Contains(configs, accessConfigName(named)) {
			configs = append(configs, accessConfigName(named))
		}
	}
	remove := func(name string, obj client.Object) (failed bool) {
		err := r.deleteAccessObjectNamed(ctx, cluster, name, obj)
		if err != nil {
			errs = append(errs, err)
		}
		noteLabel(obj)
		return err != nil
	}
	remove(names.account, &rbacv1.RoleBinding{})
	remove(names.account, &rbacv1.Role{})
	remove(names.token, &corev1.Secret{})
	account := &corev1.ServiceAccount{}
	if r.live.Get(ctx, client.ObjectKey{Namespace: cluster.Namespace, Name: names.account}, account) == nil {
		noteLabel(account)
	}
	kept := false
	for _, name := range configs {
		kept = remove(name, &corev1.Secret{}) || kept
	}
	if !kept || len(configs) == 1 {
		remove(names.account, account)
	}
	return errs
}

// deleteAccessObjectNamed reads the object of a name into is, and deletes it if it is one of the
// cluster's.
func (r *reconciliation) deleteAccessObjectNamed(ctx context.Context, cluster *v1alpha4.MetalStackCluster, name string, is client.Object) error {
	err := r.live.Get(ctx, client.ObjectKey{Namespace: cluster.Namespace, Name: name}, is)
	switch {
	case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		// A server without the kind has no object of it.
		return nil
	case err != nil:
		return err
	case !isControlledByAccess(cluster, is):
		return nil
	}
	return r.deleteAccessObject(ctx, is)
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

// isControlledByAccess reports whether the cluster controls an object, or its ServiceAccount does,
// by whatever uid.
func isControlledByAccess(cluster *v1alpha4.MetalStackCluster, obj client.Object) bool {
	controller := metav1.GetControllerOf(obj)
	if controller == nil {
		return false
	}
	isAccount := controller.APIVersion == "v1" && controller.Kind == rbacv1.ServiceAccountKind && controller.Name == accessNamesOf(cluster).account
	return controller.UID == cluster.UID || isAccount
}

// checkBelongs returns an error unless an object is one of the cluster's. One that was restored
// without its controller has the cluster's label.
func (r *reconciliation) checkBelongs(cluster *v1alpha4.MetalStackCluster, obj client.Object) error {
	isOrphan := metav1.GetControllerOf(obj) == nil && obj.GetLabels()[infrastructure.ClusterNameLabel] == clusterNameOf(cluster)
	switch {
	case !isOrphan && !isControlledByAccess(cluster, obj):
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
