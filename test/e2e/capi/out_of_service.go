// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/utils/ptr"
)

// isOutOfService says whether a Node has the taint that fences it.
func isOutOfService(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(taint corev1.Taint) bool {
		return taint.Key == corev1.TaintNodeOutOfService && taint.Effect == corev1.TaintEffectNoExecute
	})
}

// isNodeReady says whether a Node's kubelet is heard of.
func isNodeReady(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(condition corev1.NodeCondition) bool {
		return condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue
	})
}

// empty plays what the kube-controller-manager does with a Node that is out of service and
// not ready: the taint manager and the Pod garbage collector delete its Pods by
// force, then the attach-detach controller detaches its volumes. Pods of other Nodes
// that are not ready stay, as nothing says that they have ended.
func (c *workload) empty(ctx context.Context, node *corev1.Node) error {
	if !isOutOfService(node) || isNodeReady(node) {
		return nil
	}
	pods, err := c.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node.Name).String(),
	})
	if err != nil {
		return err
	}
	left := false
	for i := range pods.Items {
		pod := &pods.Items[i]
		if _, static := pod.Annotations[corev1.MirrorPodAnnotationKey]; static {
			continue // which tolerates every taint
		}
		left = true
		err := c.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0))})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	if left {
		return nil // the next time
	}
	attachments, err := c.client.StorageV1().VolumeAttachments().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range attachments.Items {
		if attachments.Items[i].Spec.NodeName != node.Name {
			continue
		}
		err := c.client.StorageV1().VolumeAttachments().Delete(ctx, attachments.Items[i].Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// Occupy runs a Pod on a Node, with a volume that is attached to it.
func (w *Workload) Occupy(t testing.TB, node, name string) {
	t.Helper()
	_, err := w.c.client.CoreV1().Pods(metav1.NamespaceDefault).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "database", Image: "database"}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = w.c.client.StorageV1().VolumeAttachments().Create(t.Context(), &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: storagev1.VolumeAttachmentSpec{
			Attacher: "csi.example.org", NodeName: node,
			Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: ptr.To(name)},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// Vacant returns an error unless Pod and volume of that name have left their Node.
func (w *Workload) Vacant(ctx context.Context, name string) error {
	_, err := w.c.client.CoreV1().Pods(metav1.NamespaceDefault).Get(ctx, name, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("the Pod %s is still there (%v)", name, err)
	}
	_, err = w.c.client.StorageV1().VolumeAttachments().Get(ctx, name, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("the volume %s is still attached (%v)", name, err)
	}
	return nil
}

// CheckNode returns an error unless a Node is ready and not fenced.
func (w *Workload) CheckNode(ctx context.Context, name string) error {
	node, err := w.c.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if !isNodeReady(node) || isOutOfService(node) {
		return fmt.Errorf("node %s: ready: %v, taints: %v", name, isNodeReady(node), node.Spec.Taints)
	}
	return nil
}
