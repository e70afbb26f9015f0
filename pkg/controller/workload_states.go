// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// workloadState is what is known of a workload cluster, in memory only.
type workloadState struct {
	// condition is what there is to say in the condition FirewallControllerReady; nil if
	// nothing is known yet.
	condition *metav1.Condition
	// cleaned is true if nothing of firewall-controllers is left in the workload cluster, and
	// cleaningSince is when that was begun.
	cleaned       bool
	cleaningSince time.Time

	// inputs are what the rest is about.
	inputs string
	// due is when it is looked at again, interval how often, and checkDue when its objects are
	// corrected.
	due, checkDue time.Time
	interval      time.Duration
	failures      int
	failingSince  time.Time
	// server is the URL at which firewalls reach it.
	server string
	// known is what a firewall knows that was allocated with a kubeconfig of this management
	// cluster.
	known v1alpha4.FirewallManagementAccess
	// times are those of the reports, by the uid of the firewall.
	times map[string]reportTimes
}

// workloadStates are the states of all workload clusters with firewall-controllers. A change
// wakes the reconciler of the cluster.
type workloadStates struct {
	mu    sync.Mutex
	by    map[ctrl.Request]workloadState
	wakes chan event.GenericEvent
}

func newWorkloadStates() *workloadStates {
	return &workloadStates{by: map[ctrl.Request]workloadState{}, wakes: make(chan event.GenericEvent, 1024)}
}

func (s *workloadStates) get(request ctrl.Request) workloadState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.by[request]
}

func (s *workloadStates) set(request ctrl.Request, state workloadState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.by[request] = state
}

func (s *workloadStates) reset(request ctrl.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.by, request)
}

// wake has the cluster reconciled. If there are too many, the cluster's own interval does.
func (s *workloadStates) wake(cluster *v1alpha4.MetalStackCluster) {
	select {
	case s.wakes <- event.GenericEvent{Object: cluster}:
	default:
	}
}

// wakeIfChanged has the cluster reconciled if its condition says something else.
func (s *workloadStates) wakeIfChanged(cluster *v1alpha4.MetalStackCluster, condition *metav1.Condition) {
	said := meta.FindStatusCondition(cluster.Status.Conditions, infrastructure.ConditionFirewallControllerReady)
	if said == nil || said.Reason != condition.Reason || said.Message != condition.Message {
		s.wake(cluster)
	}
}
