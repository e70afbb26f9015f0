// SPDX-License-Identifier: Apache-2.0

package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// ActiveLabel on a Pod is ActiveValue if its server is the active one. The Service
// selects the Pods with that value.
//
// A server that becomes active sets it on its own Pod first, and then removes it from
// all others, which may be dead. A server never removes it from its own Pod: while the
// Service selects no Pod, the kube-apiserver answers in its place, and clients do not
// retry after these answers.
const (
	ActiveLabel  = "metal-stack." + infrastructure.GroupName + "/active"
	ActiveValue  = "true"
	StandbyValue = "false"
)

const (
	// callTimeout is how long a request to the cluster may take.
	callTimeout = 5 * time.Second
	// labelInterval is how often the label is checked, and labelRetryInterval how often
	// what failed is retried.
	labelInterval      = 10 * time.Second
	labelRetryInterval = 500 * time.Millisecond
	// successorInterval is how often the Pods are listed for a successor.
	successorInterval = 50 * time.Millisecond
)

// MaintainLabels sets the label on this server's Pod, and removes it from all others,
// until ctx ends or the server is no longer active.
func (r *Replica) MaintainLabels(ctx context.Context) {
	if r.Pod == "" {
		klog.FromContext(ctx).Info("Environment variable POD_NAME is not set: the Service cannot select the active server")
		return
	}
	<-r.standbyLabelled // or it would overwrite the label
	for ctx.Err() == nil && r.fence.Check() == nil {
		pause := labelInterval
		if err := r.reconcileLabels(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Failed to update Pod labels that the Service selects: retrying")
			pause = labelRetryInterval
		}
		timer := r.clock.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C():
		}
		timer.Stop()
	}
}

func (r *Replica) reconcileLabels(ctx context.Context) error {
	labelled, err := r.pods(ctx, ActiveValue)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(labelled, r.isOwn) {
		if err := r.label(ctx, r.Pod, ActiveValue); err != nil {
			return err
		}
	}
	for _, pod := range labelled {
		if r.isOwn(pod) {
			continue
		}
		if err := r.label(ctx, pod.Name, StandbyValue); err != nil {
			return err
		}
		klog.FromContext(ctx).Info("The Service no longer selects the Pod of the previous active server", "pod", pod.Name)
	}
	return nil
}

// labelStandby labels this server's Pod as standby. If it was active before its process
// was restarted, its label stays until another server removes it.
func (r *Replica) labelStandby(ctx context.Context) {
	if r.Pod == "" {
		return
	}
	_ = wait.PollUntilContextCancel(ctx, labelRetryInterval, true, func(ctx context.Context) (bool, error) {
		labelled, err := r.pods(ctx, ActiveValue)
		if err == nil && !slices.ContainsFunc(labelled, r.isOwn) {
			err = r.label(ctx, r.Pod, StandbyValue)
		}
		if err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Failed to label this Pod as standby: retrying")
		}
		return err == nil, nil
	})
}

// AwaitSuccessor returns when the Service selects another server. It returns false if
// there is no ready standby, or ctx ends first.
func (r *Replica) AwaitSuccessor(ctx context.Context) bool {
	if r.Pod == "" {
		return false
	}
	followed := false
	_ = wait.PollUntilContextCancel(ctx, successorInterval, true, func(ctx context.Context) (bool, error) {
		waiting, err := r.pods(ctx, StandbyValue)
		if err != nil {
			return false, nil
		}
		// Listed second: one that has just become active was in the first list.
		active, err := r.pods(ctx, ActiveValue)
		if err != nil {
			return false, nil
		}
		followed = slices.ContainsFunc(active, func(p corev1.Pod) bool { return !r.isOwn(p) })
		return followed || !slices.ContainsFunc(waiting, r.isReadyStandby), nil
	})
	return followed
}

// HasReadyStandby returns whether another server is a standby and ready, as far as is
// known.
func (r *Replica) HasReadyStandby(ctx context.Context) bool {
	if r.Pod == "" {
		return false
	}
	waiting, err := r.pods(ctx, StandbyValue)
	return err == nil && slices.ContainsFunc(waiting, r.isReadyStandby)
}

func (r *Replica) isOwn(pod corev1.Pod) bool { return pod.Name == r.Pod }

// isReadyStandby returns whether a standby's Pod is another one, and ready.
func (r *Replica) isReadyStandby(pod corev1.Pod) bool {
	return !r.isOwn(pod) && pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// pods are those with a value of the label.
func (r *Replica) pods(ctx context.Context, value string) ([]corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list, err := r.Client.CoreV1().Pods(r.Namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.Set{ActiveLabel: value}.String()})
	if err != nil {
		return nil, fmt.Errorf("failed to list Pods with label %s=%s: %w", ActiveLabel, value, err)
	}
	return list.Items, nil
}

func (r *Replica) label(ctx context.Context, pod, value string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]string{ActiveLabel: value}}})
	if err != nil {
		return err
	}
	if value == ActiveValue || pod != r.Pod {
		// Checked again: the list may have taken long.
		if err := r.fence.Check(); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := r.Client.CoreV1().Pods(r.Namespace).Patch(ctx, pod, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("failed to set label %s of Pod %q to %q: %w", ActiveLabel, pod, value, err)
	}
	return nil
}
