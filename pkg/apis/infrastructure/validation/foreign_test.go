// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func FuzzValidateTags_AcceptedTagsAreLabelsAndClaimNothing(f *testing.F) {
	f.Add("a=b", "a")
	f.Add("infrastructure.cluster.x-k8s.io/uid=x", "infrastructure.cluster.x-k8s.io/uid")
	f.Add("cluster.metal-stack.io/id=x", "machine.metal-stack.io/id=x")
	f.Add("=", "\x00")
	f.Fuzz(func(t *testing.T, one, other string) {
		if len(validateTags([]string{one, other}, field.NewPath("tags"))) > 0 {
			return
		}
		keys := map[string]bool{}
		for _, tag := range []string{one, other} {
			key, value, isPair := strings.Cut(tag, "=")
			assert.False(t, keys[key], "%q twice", key)
			keys[key] = true
			if isPair {
				assert.Empty(t, validation.IsQualifiedName(key))
				assert.Empty(t, validation.IsValidLabelValue(value))
			}
		}
		for _, identity := range []string{metal.TagUID, metal.TagNamespace, metal.TagName, metal.TagManagementCluster, metal.TagCluster, metal.TagMachine} {
			_, found := metal.TagValue([]string{one, other}, identity)
			assert.False(t, found, "%q and %q claim %s", one, other, identity)
		}
	})
}

// names are those of all fields in a body.
func names(body []byte) (all []string) {
	var walk func(value any)
	walk = func(value any) {
		switch v := value.(type) {
		case map[string]any:
			for name, field := range v {
				all = append(all, name)
				walk(field)
			}
		case []any:
			for _, entry := range v {
				walk(entry)
			}
		}
	}
	var value any
	_ = json.Unmarshal(body, &value)
	walk(value)
	return all
}

// Whatever is wrong with a body, no answer quotes the user data in it. It names
// an unknown field, even if that is called like user data.
func FuzzValidateAllocation_QuotesNoUserData(f *testing.F) {
	for _, seed := range []string{
		`{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4","kind":"Allocation","metadata":{"name":"node-1","uid":"u"},"clusterRef":{"name":"c"},"userData":"dGhlLXNlY3JldC1qb2luLXRva2Vu"}`,
		`{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha3","kind":"Allocation","userData":"not base64 at all!"}`,
		`{"kind":"Allocation","userData":["dGhlLXNlY3JldC1qb2luLXRva2Vu"]}`,
		`{"clusterRef":{"name":""},"userdata":"dGhlLXNlY3JldC1qb2luLXRva2Vu","unknown":1}`,
		"kind: Allocation\napiVersion: infrastructure.cluster.x-k8s.io/v1alpha4\nuserData: dGhlLXNlY3JldC1qb2luLXRva2Vu\n",
		``, `null`, `[]`, `{"userData":null}`,
	} {
		f.Add([]byte(seed))
	}
	gvk := v1alpha4.SchemeGroupVersion.WithKind("Allocation")
	served, decoders := scheme.RedactingSerializer(scheme.Codecs), []runtime.Decoder{}
	for _, info := range served.SupportedMediaTypes() {
		for _, serializer := range []runtime.Serializer{info.Serializer, info.StrictSerializer} {
			decoders = append(decoders, served.DecoderToVersion(serializer, infrastructure.SchemeGroupVersion))
		}
	}
	decoder := scheme.Codecs.UniversalDecoder(infrastructure.SchemeGroupVersion)
	encoder := scheme.Codecs.LegacyCodec(v1alpha4.SchemeGroupVersion)
	f.Fuzz(func(t *testing.T, body []byte) {
		var raw struct{ UserData string }
		isName := func(name string) bool { return strings.Contains(name, raw.UserData) }
		if json.Unmarshal(body, &raw) == nil && len(raw.UserData) > 12 && !slices.ContainsFunc(names(body), isName) {
			for _, d := range decoders {
				if _, _, err := d.Decode(body, &gvk, &infrastructure.Allocation{}); err != nil {
					assert.NotContains(t, err.Error(), raw.UserData)
				}
			}
		}
		obj, _, err := decoder.Decode(body, &gvk, &infrastructure.Allocation{})
		a, isAllocation := obj.(*infrastructure.Allocation)
		if err != nil || !isAllocation {
			return
		}
		elsewhere := a.Name
		if a.ClusterRef != nil {
			elsewhere += "\n" + a.ClusterRef.Name
		}
		if errs := ValidateAllocation(a, "node-1"); len(errs) > 0 && len(a.UserData) > 12 && !strings.Contains(elsewhere, string(a.UserData)) {
			assert.NotContains(t, errs.ToAggregate().Error(), string(a.UserData))
		}
		data, err := runtime.Encode(encoder, a)
		require.NoError(t, err)
		again, err := runtime.Decode(decoder, data)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(a.UserData, again.(*infrastructure.Allocation).UserData))
		assert.Equal(t, a.ClusterRef, again.(*infrastructure.Allocation).ClusterRef)
	})
}
