// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// node is the Node on which all Pods are said to run.
const node = "node-1"

// Pod is a Pod object whose process the test runs itself. Services select it
// by its labels, as any Pod.
type Pod struct {
	c               *ControlPlane
	Namespace, Name string
	ip              string
	addresses       map[int32]string
}

// RunPod creates a Pod and reports it running and ready, as a kubelet would.
// Its ports are really served at addresses: from container port to host:port.
// Named target ports of Services are looked up in the Pod's containers.
func (c *ControlPlane) RunPod(t testing.TB, pod *corev1.Pod, addresses map[int32]string) *Pod {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callDeadline)
	defer cancel()
	_, err := c.client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatalf("node %s: %v", node, err)
	}
	pod = pod.DeepCopy()
	pod.Spec.NodeName = node
	created, err := c.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("pod %s/%s: %v", pod.Namespace, pod.Name, err)
	}
	p := &Pod{
		c: c, Namespace: created.Namespace, Name: created.Name,
		ip: c.network.attach(addresses), addresses: addresses,
	}
	p.SetReady(t, true)
	return p
}

// SetReady reports the Pod ready or not ready, as its readiness probe would.
func (p *Pod) SetReady(t testing.TB, ready bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callDeadline)
	defer cancel()
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	// A patch, so that labels are left to whoever sets them.
	patch, err := json.Marshal(map[string]any{"status": corev1.PodStatus{
		Phase:  corev1.PodRunning,
		PodIP:  p.ip,
		PodIPs: []corev1.PodIP{{IP: p.ip}},
		Conditions: []corev1.PodCondition{
			{Type: corev1.ContainersReady, Status: status, LastTransitionTime: metav1.Now()},
			{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.Now()},
		},
	}})
	must(err)
	_, err = p.c.client.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatalf("status of pod %s/%s: %v", p.Namespace, p.Name, err)
	}
}

// Terminate marks the Pod as going, as `kubectl delete pod` does; a kubelet
// would send SIGTERM now, and Delete once the process is gone. Services send
// new connections to other Pods, if there are any.
func (p *Pod) Terminate(t testing.TB) {
	t.Helper()
	p.delete(t, 30)
}

// Delete removes the Pod at once, as a kubelet does whose containers are gone.
// Established connections stay.
func (p *Pod) Delete(t testing.TB) {
	t.Helper()
	p.delete(t, 0)
	p.c.network.detach(p.ip, p.addresses)
}

func (p *Pod) delete(t testing.TB, graceSeconds int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callDeadline)
	defer cancel()
	err := p.c.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &graceSeconds})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Fatalf("pod %s/%s: %v", p.Namespace, p.Name, err)
	}
}
