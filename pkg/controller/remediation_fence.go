// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const (
	// podsPerRequest and attachmentsPerRequest keep answers below maxWorkloadAnswer.
	podsPerRequest        = 100
	attachmentsPerRequest = 500
	// maxWorkloadPages bounds the requests for one of these lists.
	maxWorkloadPages = 20
	// maxClaims bounds the PersistentVolumeClaims that are read, of Pods that stay on a Node.
	maxClaims = 50
	claimKind = "PersistentVolumeClaim"
)

// outOfService is the taint by which kube-controller-manager deletes the Pods of a Node, and
// detaches its volumes, although its kubelet does not answer.
var outOfService = corev1.Taint{Key: corev1.TaintNodeOutOfService, Value: "nodeshutdown", Effect: corev1.TaintEffectNoExecute}

var (
	errWorkloadBusy = errors.New("too many workload clusters of the namespace are worked on")
	errManyOnNode   = errors.New("the workload cluster has too many Pods or volumes to look through")
)

// connect connects the workload cluster of the Machine.
func (r *remediationRun) connect(ctx context.Context) (*workloadAPI, error) {
	if r.workload != nil {
		return r.workload, nil
	}
	name := r.clusterName()
	if !r.slots.take(r.obj.Namespace) {
		return nil, errWorkloadBusy
	}
	r.leave = func() { r.slots.leave(r.obj.Namespace) }
	secret := &corev1.Secret{}
	err := r.live.Get(ctx, client.ObjectKey{Namespace: r.obj.Namespace, Name: name + "-kubeconfig"}, secret)
	switch {
	case apierrors.IsNotFound(err):
		return nil, errNoKubeconfig
	case err != nil:
		return nil, fmt.Errorf("failed to read Secret %s-kubeconfig: %w", name, err)
	}
	api, err := r.connections.connect(r.request, secret.Data[kubeconfigKey])
	if err != nil {
		return nil, err
	}
	r.workload = api
	return api, nil
}

// describeConnectError says why the workload cluster cannot be used, and quotes nothing of it.
func describeConnectError(err error) string {
	var unusable *kubeconfigError
	var inWorkload *workloadError
	switch {
	case errors.Is(err, errWorkloadBusy), errors.Is(err, errManyOnNode):
		return err.Error()
	case errors.Is(err, errNoKubeconfig):
		return "the kubeconfig of the workload cluster is not there"
	case errors.As(err, &unusable):
		return "the kubeconfig of the workload cluster is not used: " + unusable.message
	case errors.As(err, &inWorkload):
		return "the workload cluster cannot be used: " + describeWorkloadError(inWorkload.error)
	}
	return "the kubeconfig of the workload cluster cannot be read"
}

// node returns the Machine's Node; nil if it is gone, or there is another machine's of its name.
func (r *remediationRun) node(ctx context.Context) (*corev1.Node, error) {
	return r.nodeOf(ctx, r.machine.Status.NodeRef.Name)
}

func (r *remediationRun) nodeOf(ctx context.Context, name string) (*corev1.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, workloadTimeout)
	defer cancel()
	api, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	node := &corev1.Node{}
	switch err := api.Get(ctx, client.ObjectKey{Name: name}, node); {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, &workloadError{err}
	}
	if r.machine != nil && node.Spec.ProviderID != "" && r.machine.Spec.ProviderID != "" && node.Spec.ProviderID != r.machine.Spec.ProviderID {
		return nil, nil
	}
	return node, nil
}

// isOutOfService returns whether a Node has the taint, with whatever value.
func isOutOfService(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&outOfService) })
}

// taint sets the taint, if the Node is still as it was read.
func (r *remediationRun) taint(ctx context.Context, node *corev1.Node) error {
	return r.patchTaints(ctx, node, func(taints []corev1.Taint) []corev1.Taint { return append(taints, outOfService) })
}

// stateOfSwitchedOff returns the power state, as it is now, of a machine that was asked to switch
// off; nil if its controller does not report it off since.
func (r *remediationRun) stateOfSwitchedOff(ctx context.Context) (*v1alpha4.MachinePowerStatus, error) {
	if err := r.readMetal(ctx); err != nil {
		return nil, err
	}
	if r.metal == nil || r.lostMetal() != "" || !r.isSwitchedOff() {
		return nil, nil
	}
	state, err := r.power.state(ctx, r.metal)
	if err != nil || !isSeen(state, v1alpha4.PowerStateOff, r.metal.Status.LastOperation) {
		return nil, err
	}
	return state, nil
}

// unfencedAnnotation is on a Node of which the taint was to be taken off and was not there. It is
// when, so that each time changes the Node.
const unfencedAnnotation = infrastructure.GroupName + "/unfenced"

// untaint takes the taint off a Node on which this remediation has set it. If the taint is not
// there, the answer of the request that sets it may have been lost, and it be in flight: a change of
// the Node has it refused.
func (r *remediationRun) untaint(ctx context.Context, node *corev1.Node) error {
	if r.obj.Status.FencedNode != node.Name {
		return nil
	}
	if !isOutOfService(node) {
		return r.patchNode(ctx, node, func() {
			metav1.SetMetaDataAnnotation(&node.ObjectMeta, unfencedAnnotation, r.clock.Now().UTC().Format(time.RFC3339Nano))
		})
	}
	return r.patchTaints(ctx, node, func(taints []corev1.Taint) []corev1.Taint {
		return slices.DeleteFunc(taints, func(t corev1.Taint) bool { return t.MatchTaint(&outOfService) && t.Value == outOfService.Value })
	})
}

func (r *remediationRun) patchTaints(ctx context.Context, node *corev1.Node, change func([]corev1.Taint) []corev1.Taint) error {
	return r.patchNode(ctx, node, func() { node.Spec.Taints = change(slices.Clone(node.Spec.Taints)) })
}

// patchNode changes a Node, if it is still as it was read.
func (r *remediationRun) patchNode(ctx context.Context, node *corev1.Node, change func()) error {
	ctx, cancel := context.WithTimeout(ctx, workloadTimeout)
	defer cancel()
	before := node.DeepCopy()
	change()
	if apiequality.Semantic.DeepEqual(before, node) {
		return nil
	}
	if err := r.workload.Patch(ctx, node, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return &workloadError{err}
	}
	return nil
}

// unfence takes the taint off the Node that this remediation has fenced.
func (r *remediationRun) unfence(ctx context.Context) error {
	node, err := r.nodeOf(ctx, r.obj.Status.FencedNode)
	if err != nil || node == nil {
		return err
	}
	return r.untaint(ctx, node)
}

// recordUnfenced records that the taint is off.
func (r *remediationRun) recordUnfenced(ctx context.Context) error {
	return r.record(ctx, func(s *v1alpha4.MetalStackRemediationStatus) { s.FencedNode = "" })
}

// leftOn says what is left on a Node that the taint is to drive away; "" if nothing is.
func (r *remediationRun) leftOn(ctx context.Context, node string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, workloadTimeout)
	defer cancel()
	var claims []client.ObjectKey
	pods, err := count(ctx, r.workload, &corev1.PodList{}, podsPerRequest, func(l *corev1.PodList) (n int) {
		for i := range l.Items {
			switch pod := &l.Items[i]; {
			case pod.Spec.NodeName != node:
			case hasEnded(pod):
				// Its volumes are detached.
			case staysOnNode(pod):
				claims = append(claims, claimsOf(pod)...)
			default:
				n++
			}
		}
		return n
	}, client.MatchingFields{"spec.nodeName": node})
	if err != nil {
		return "", err
	}
	stay, err := r.volumesOf(ctx, claims)
	if err != nil {
		return "", err
	}
	attachments, err := count(ctx, r.workload, &storagev1.VolumeAttachmentList{}, attachmentsPerRequest, func(l *storagev1.VolumeAttachmentList) int {
		return len(slices.DeleteFunc(l.Items, func(a storagev1.VolumeAttachment) bool {
			return a.Spec.NodeName != node || stay[ptr.Deref(a.Spec.Source.PersistentVolumeName, "")]
		}))
	})
	switch {
	case err != nil || pods+attachments == 0:
		return "", err
	case attachments == 0:
		return fmt.Sprintf("%d Pods are", pods), nil
	}
	return fmt.Sprintf("%d Pods and %d volumes are", pods, attachments), nil
}

// claimsOf are the PersistentVolumeClaims of a Pod.
func claimsOf(pod *corev1.Pod) (claims []client.ObjectKey) {
	for _, v := range pod.Spec.Volumes {
		switch {
		case v.PersistentVolumeClaim != nil:
			claims = append(claims, client.ObjectKey{Namespace: pod.Namespace, Name: v.PersistentVolumeClaim.ClaimName})
		case v.Ephemeral != nil:
			claims = append(claims, client.ObjectKey{Namespace: pod.Namespace, Name: pod.Name + "-" + v.Name})
		}
	}
	return claims
}

// volumesOf are the names of the PersistentVolumes of claims. Those of Pods that stay on the Node stay
// attached to it.
func (r *remediationRun) volumesOf(ctx context.Context, claims []client.ObjectKey) (map[string]bool, error) {
	volumes := map[string]bool{}
	for _, key := range claims[:min(len(claims), maxClaims)] {
		claim := &corev1.PersistentVolumeClaim{}
		switch err := r.workload.Get(ctx, key, claim); {
		case client.IgnoreNotFound(err) != nil:
			return nil, &workloadError{err}
		case err == nil && claim.Spec.VolumeName != "":
			volumes[claim.Spec.VolumeName] = true
		}
	}
	return volumes, nil
}

// count adds up what each page of a list has.
func count[L client.ObjectList](ctx context.Context, api client.Client, list L, perRequest int64, of func(L) int, opts ...client.ListOption) (n int, err error) {
	for range maxWorkloadPages {
		page := append(slices.Clone(opts), client.Limit(perRequest), client.Continue(list.GetContinue()))
		if err := api.List(ctx, list, page...); err != nil {
			return 0, &workloadError{err}
		}
		n += of(list)
		if list.GetContinue() == "" {
			return n, nil
		}
	}
	return 0, errManyOnNode
}

// staysOnNode returns whether the taint leaves a Pod: it has ended, or tolerates the taint, as
// static Pods and the Pods of many DaemonSets do.
func staysOnNode(pod *corev1.Pod) bool {
	return hasEnded(pod) || slices.ContainsFunc(pod.Spec.Tolerations, func(t corev1.Toleration) bool {
		return (t.Key == "" || t.Key == outOfService.Key) && (t.Effect == "" || t.Effect == outOfService.Effect) &&
			(t.Operator == corev1.TolerationOpExists || t.Key != "" && t.Value == outOfService.Value) && t.TolerationSeconds == nil
	})
}

func hasEnded(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// isReadySince returns whether a Node is ready, and its kubelet has said so since a time: until
// it is noticed that a machine is off, its Node is shown as ready.
func isReadySince(node *corev1.Node, t time.Time) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue && (c.LastHeartbeatTime.After(t) || c.LastTransitionTime.After(t) || t.IsZero())
	})
}
