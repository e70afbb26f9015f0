// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/registry/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
)

func TestMachineReferrers_FindsTheRecordThatNamesAMachine(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	m := newMachine("node-1")
	m.Spec.ProviderID = "metalstack://" + idleID
	create(t, w, machine.Resource, m)
	m = newMachine("node-2")
	m.Spec.ProviderID = "metal://fra-01/" + idleID
	_, err := w.all[machine.Resource].main.Create(in("team-a"), m, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	assert.ErrorContains(t, err, "node-1")
}
