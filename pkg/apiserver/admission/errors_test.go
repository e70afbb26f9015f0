// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// requireNotAdmitted checks that a client can tell that nothing was done.
func requireNotAdmitted(t *testing.T, err error) {
	t.Helper()
	var status *apierrors.StatusError
	require.ErrorAs(t, err, &status)
	require.NotNil(t, status.ErrStatus.Details)
	assert.Equal(t, infrastructure.GroupName, status.ErrStatus.Details.Group)
	assert.Equal(t, "metalstackmachines", status.ErrStatus.Details.Kind)
	assert.Equal(t, "node-1", status.ErrStatus.Details.Name)
	assert.True(t, apierrors.HasStatusCause(err, infrastructure.CauseNotAdmitted))
}

func TestExplain_SaysHowParametersAreGranted(t *testing.T) {
	t.Parallel()
	err := apierrors.NewForbidden(infrastructure.Resource("metalstackmachines"), "node-1", errors.New("failed to configure binding: paramKind kind `/v1, Kind=ConfigMap` not yet synced to use for admission"))
	got := explain(createRequest(""), err)
	require.True(t, apierrors.IsForbidden(got), "%v", got)
	require.ErrorContains(t, got, ParamsLabel)
	assert.NotContains(t, err.Error(), ParamsLabel, "an error may be shared")
	assert.False(t, apierrors.HasStatusCause(got, infrastructure.CauseNotAdmitted), "it is refused, not failed")
	other := errors.New("other")
	assert.Equal(t, other, explain(createRequest(""), other))
	require.NoError(t, explain(createRequest(""), nil))
}

func TestExplain_SaysThatNothingWasDoneIfAdmissionFailed(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		apierrors.NewInternalError(errors.New(`failed calling webhook "example.com": connection refused`)),
		apierrors.NewTimeoutError("request did not complete within requested timeout", 0),
		apierrors.NewServiceUnavailable("no schema yet"),
	} {
		got := explain(createRequest("power"), err)
		assert.Equal(t, err.Error(), got.Error())
		assert.Equal(t, apierrors.ReasonForError(err), apierrors.ReasonForError(got))
		requireNotAdmitted(t, got)
	}
}
