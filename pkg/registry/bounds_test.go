// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func TestBoundedErrors_AreFewAndShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("ä", 100_000)
	path := field.NewPath("spec")
	some := field.ErrorList{field.Invalid(path.Key(long), long, long), field.Duplicate(path, &long), field.Invalid(path, []string{long}, "immutable"), field.Required(path, "")}
	errs := slices.Repeat(some, 25_000)
	bounded := LimitErrors(errs)
	require.Len(t, bounded, maxErrors)
	assert.Less(t, len(bounded.ToAggregate().Error()), maxErrors*4*maxErrorText)
	assert.Contains(t, bounded[maxErrors-1].Error(), "(and 99980 more errors)")
	assert.Len(t, errs[0].Detail, len(long), "what was given stays as it was")
}

func TestBoundedErrors_AreOneLineEach(t *testing.T) {
	t.Parallel()
	path := field.NewPath("metadata").Key("a\nb")
	for _, err := range LimitErrors(field.ErrorList{field.Invalid(path, strings.Repeat("x\ny", 1000), "must not\nhave line breaks")}) {
		assert.NotContains(t, err.Error(), "\n")
		assert.NotContains(t, err.Error(), `\n`)
	}
}

func TestBoundedErrors_KeepShortErrors(t *testing.T) {
	t.Parallel()
	errs := field.ErrorList{field.Invalid(field.NewPath("spec"), "x", "y"), field.NotSupported(field.NewPath("spec"), "x", []string{"a"}), field.TooMany(field.NewPath("spec"), 3, 2)}
	assert.Equal(t, errs, LimitErrors(errs))
	assert.Empty(t, LimitErrors(nil))
}

func TestPatchErrors_QuoteNoWholeObject(t *testing.T) {
	t.Parallel()
	patched := `{"metadata":{"creationTimestamp":"` + strings.Repeat(`\"`, 70_000) + `"}}`
	invalid := func(kind, value, detail string) error {
		return apierrors.NewInvalid(schema.GroupKind{Kind: kind}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), value, detail)})
	}
	limited := limitPatchError(invalid("", patched, "cannot be decoded: "+patched))
	require.True(t, apierrors.IsInvalid(limited))
	assert.Less(t, len(limited.Error()), 4*maxErrorText)
	assert.Contains(t, limited.Error(), `patch: Invalid value: "{\"metadata\":{\"creationTimestamp\":`)
	assert.Contains(t, limited.Error(), "cannot be decoded: ")

	for what, err := range map[string]error{
		"nothing": nil, "a short one": invalid("", "{}", "no"), "an object's": invalid("MetalStackMachine", patched, "no"), "another one": errors.New(patched),
	} {
		assert.Equal(t, err, limitPatchError(err), what)
	}
}
