// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/firewall"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
)

// waiting knows what each allocation would wait for.
type waiting struct{ noAllocator }

func (waiting) CheckMachine(_ context.Context, m *infrastructure.MetalStackMachine) []string {
	return []string{"no machine of size " + m.Spec.MachineType}
}

func (waiting) CheckFirewall(context.Context, *infrastructure.MetalStackFirewall) []string {
	return []string{"no firewall"}
}

// A claim that waits may be created, so a dry run warns, and refuses nothing.
func TestCreate_OnlyDryRunWarnsOfWhatTheAllocationWouldWaitFor(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	w.APIGroup(Backends{Allocator: waiting{}})
	wall := func(image string) *infrastructure.MetalStackFirewall {
		return &infrastructure.MetalStackFirewall{
			ObjectMeta: metav1.ObjectMeta{Name: "fw", Namespace: "team-a"},
			Spec:       infrastructure.MetalStackFirewallSpec{Image: image, MachineType: "v1-small-x86"},
		}
	}
	dry := &metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}

	var warned warnings
	_, err := w.all[machine.Resource].main.Create(warning.WithWarningRecorder(in("team-a"), &warned), newMachine("node-1"), rest.ValidateAllObjectFunc, dry)
	require.NoError(t, err)
	assert.Equal(t, warnings{"no machine of size v1-small-x86"}, warned)

	warned = nil
	_, err = w.all[firewall.Resource].main.Create(warning.WithWarningRecorder(in("team-a"), &warned), wall("firewall-ubuntu-3.0"), rest.ValidateAllObjectFunc, dry)
	require.NoError(t, err)
	assert.Contains(t, warned, "no firewall")

	warned = nil
	_, err = w.all[firewall.Resource].main.Create(warning.WithWarningRecorder(in("team-a"), &warned), wall(""), rest.ValidateAllObjectFunc, dry)
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	assert.Empty(t, warned, "what is not valid is not checked")

	_, err = w.all[machine.Resource].main.Create(warning.WithWarningRecorder(in("team-a"), &warned), newMachine("node-1"), rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	require.NoError(t, err)
	assert.Empty(t, warned)
}
