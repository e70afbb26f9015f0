// SPDX-License-Identifier: Apache-2.0

package quota

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// plugin answers with an error, and counts how often it was asked.
type plugin struct {
	answer error
	asked  int
}

func (p *plugin) Handles(admission.Operation) bool { return true }

func (p *plugin) Validate(context.Context, admission.Attributes, admission.ObjectInterfaces) error {
	p.asked++
	return p.answer
}

func create(subresource string) admission.Attributes {
	return admission.NewAttributesRecord(&infrastructure.MetalStackMachine{}, nil, schema.GroupVersionKind{}, "team-a", "node-1",
		schema.GroupVersionResource{}, subresource, admission.Create, &metav1.CreateOptions{}, false, nil)
}

func TestAdmission_EvaluatesOnlyCreationOfObjects(t *testing.T) {
	t.Parallel()
	p := &plugin{}
	a := &Admission{p}
	assert.NoError(t, a.Validate(t.Context(), create("allocation"), nil))
	assert.Zero(t, p.asked, "the body holds user data")
	assert.NoError(t, a.Validate(t.Context(), create(""), nil))
	assert.Equal(t, 1, p.asked)
	assert.True(t, a.Handles(admission.Create))
	for _, operation := range []admission.Operation{admission.Update, admission.Delete, admission.Connect} {
		assert.False(t, a.Handles(operation), operation)
	}
}

func TestAdmission_ReturnsUnavailableIfQuotasCannotBeRead(t *testing.T) {
	t.Parallel()
	refusal := apierrors.NewForbidden(infrastructure.Resource("metalstackmachines"), "node-1", errors.New("exceeded quota"))
	assert.Equal(t, error(refusal), (&Admission{&plugin{answer: refusal}}).Validate(t.Context(), create(""), nil))
	err := (&Admission{&plugin{answer: errors.New("connection refused")}}).Validate(t.Context(), create(""), nil)
	assert.True(t, apierrors.IsServiceUnavailable(err), "%v", err)
	assert.ErrorContains(t, err, `quotas of namespace "team-a"`)
}
