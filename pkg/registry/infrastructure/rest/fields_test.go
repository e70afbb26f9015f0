// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
)

// Which fields can be selected is registered with the versions, and what their
// values are is set in the registry: the two must agree.
func TestFieldSelectors_AreRegisteredForEveryVersion(t *testing.T) {
	t.Parallel()
	w := newEnvironment(t)
	for name, resource := range w.all {
		obj := resource.main.New()
		_, values, err := resource.main.PredicateFunc(labels.Everything(), fields.Everything()).GetAttrs(obj)
		require.NoError(t, err)
		kinds, _, err := scheme.Scheme.ObjectKinds(obj)
		require.NoError(t, err)
		for _, gv := range scheme.Scheme.PrioritizedVersionsForGroup(infrastructure.GroupName) {
			gvk := gv.WithKind(kinds[0].Kind)
			for field := range values {
				label, value, err := scheme.Scheme.ConvertFieldLabel(gvk, field, "x")
				require.NoError(t, err, "%s: %s", name, gvk)
				assert.Equal(t, field, label)
				assert.Equal(t, "x", value)
			}
			_, _, err := scheme.Scheme.ConvertFieldLabel(gvk, "spec.color", "red")
			require.ErrorContains(t, err, "spec.color", "%s: %s", name, gvk)
			for field := range values {
				require.ErrorContains(t, err, field, "the error lists what is supported")
			}
		}
	}
}
