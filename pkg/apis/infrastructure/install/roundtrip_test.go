// SPDX-License-Identifier: Apache-2.0

package install

import (
	"math/rand"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	apifuzzer "k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	"k8s.io/apimachinery/pkg/api/apitesting/roundtrip"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/sets"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/fuzzer"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha3"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func TestRoundTrip_ThroughJSON(t *testing.T) {
	t.Parallel()
	roundtrip.RoundTripTestForAPIGroup(t, Install, fuzzer.Funcs)
}

func TestRoundTrip_ThroughUnstructured(t *testing.T) {
	t.Parallel()

	options := sets.New[schema.GroupVersionKind]()
	for _, gv := range []schema.GroupVersion{v1alpha3.SchemeGroupVersion, v1alpha4.SchemeGroupVersion} {
		for _, kind := range []string{"CreateOptions", "UpdateOptions", "PatchOptions"} {
			options.Insert(gv.WithKind(kind))
		}
	}
	roundtrip.RoundtripToUnstructured(t, installed(), fuzzer.Funcs, options, options)
}

// What is written in one version and read in the other must survive, since the
// two are views of one record.
func TestRoundTrip_ThroughBothVersions(t *testing.T) {
	t.Parallel()

	scheme := installed()
	codecs := serializer.NewCodecFactory(scheme)
	filler := apifuzzer.FuzzerFor(apifuzzer.MergeFuzzerFuncs(metafuzzer.Funcs, fuzzer.Funcs), rand.NewSource(1), codecs)
	through := func(object runtime.Object, gv schema.GroupVersion) runtime.Object {
		external, err := scheme.ConvertToVersion(object, gv)
		require.NoError(t, err)
		internal, err := scheme.ConvertToVersion(external, infrastructure.SchemeGroupVersion)
		require.NoError(t, err)
		return internal
	}

	kinds := 0
	for kind := range scheme.KnownTypes(infrastructure.SchemeGroupVersion) {
		if roundtrip.GlobalNonRoundTrippableTypes().Has(kind) {
			continue
		}
		kinds++
		for range 50 {
			object, err := scheme.New(infrastructure.SchemeGroupVersion.WithKind(kind))
			require.NoError(t, err)
			filler.Fill(object)
			object.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})

			got := through(through(object.DeepCopyObject(), v1alpha3.SchemeGroupVersion), v1alpha4.SchemeGroupVersion)
			got.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
			require.True(t, apiequality.Semantic.DeepEqual(object, got), "%s: %s", kind, cmp.Diff(object, got))
		}
	}
	require.Equal(t, 34, kinds, "thirteen kinds, their lists, the bodies of seven subresources, and MetalAPIOptions")
}

func TestInstall_V1alpha4ComesFirst(t *testing.T) {
	t.Parallel()
	require.Equal(t,
		[]schema.GroupVersion{v1alpha4.SchemeGroupVersion, v1alpha3.SchemeGroupVersion},
		installed().PrioritizedVersionsForGroup(infrastructure.GroupName))
}

func installed() *runtime.Scheme {
	scheme := runtime.NewScheme()
	Install(scheme)
	return scheme
}
