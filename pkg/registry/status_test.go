// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func conditionOf(kind string, status metav1.ConditionStatus, reason string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason}
}

func TestMergeConditions_AllocatedIsTheControllersUntilAllocationBegins(t *testing.T) {
	t.Parallel()
	var (
		ready   = conditionOf(infrastructure.ConditionReady, metav1.ConditionFalse, infrastructure.ReasonNotAllocated)
		waiting = conditionOf(infrastructure.ConditionAllocated, metav1.ConditionFalse, infrastructure.ReasonWaitingForBootstrapData)
		refused = conditionOf(infrastructure.ConditionAllocated, metav1.ConditionFalse, infrastructure.ReasonAllocationRefused)
		done    = conditionOf(infrastructure.ConditionAllocated, metav1.ConditionTrue, infrastructure.ReasonAllocated)
		paused  = conditionOf(infrastructure.ConditionPaused, metav1.ConditionFalse, infrastructure.ReasonNotPaused)
		lie     = conditionOf(infrastructure.ConditionReady, metav1.ConditionTrue, infrastructure.ReasonPhonedHome)
		other   = conditionOf(infrastructure.ConditionMatchesSpec, metav1.ConditionFalse, infrastructure.ReasonOtherSize)
		matches = conditionOf(infrastructure.ConditionMatchesSpec, metav1.ConditionTrue, infrastructure.ReasonMatchesSpec)
	)
	type list = []metav1.Condition
	for name, c := range map[string]struct {
		old, submitted list
		begun          bool
		merged         list
	}{
		"first wait":                             {list{ready}, list{ready, waiting, paused}, false, list{ready, waiting, paused}},
		"wait after a refusal":                   {list{ready, refused}, list{ready, waiting}, false, list{ready, waiting}},
		"refusal that a controller has not seen": {list{ready, refused}, list{ready, paused}, false, list{ready, refused, paused}},
		"wait that comes too late":               {list{ready, done}, list{ready, waiting, paused}, true, list{ready, done, paused}},
		"allocation that was not":                {list{ready}, list{ready, done}, false, list{ready}},
		"readiness that is not":                  {list{ready}, list{lie, paused}, false, list{ready, paused}},
		"size that is not":                       {list{ready, done, other}, list{ready, done, matches, paused}, true, list{ready, done, other, paused}},
		"removed":                                {list{ready, done, paused}, nil, true, list{ready, done}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.merged, MergeConditions(c.old, c.submitted, c.begun))
		})
	}
}
