// SPDX-License-Identifier: Apache-2.0

package scheme

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha3"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
)

const examples = "../../../../artifacts/examples"

// The manifests of the archived provider's documentation are valid, and read
// back as they were written in either version.
func TestScheme_ManifestsOfTheArchivedProviderRoundTrip(t *testing.T) {
	t.Parallel()

	files, err := filepath.Glob(filepath.Join(examples, "seed", "*.yaml"))
	require.NoError(t, err)
	require.Len(t, files, 3)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()

			manifest, err := os.ReadFile(file)
			require.NoError(t, err)
			var want map[string]any
			require.NoError(t, yaml.UnmarshalStrict(manifest, &want))

			object, _, err := Codecs.UniversalDecoder(infrastructure.SchemeGroupVersion).Decode(manifest, nil, nil)
			require.NoError(t, err)
			assert.Empty(t, validate(t, object))

			for _, gv := range []runtime.GroupVersioner{v1alpha3.SchemeGroupVersion, v1alpha4.SchemeGroupVersion} {
				encoded, err := runtime.Encode(Codecs.EncoderForVersion(jsonSerializer(), gv), object)
				require.NoError(t, err)
				var got map[string]any
				require.NoError(t, json.Unmarshal(encoded, &got))
				assert.Equal(t, normal(t, want["spec"]), got["spec"])
				assert.Equal(t, want["metadata"].(map[string]any)["name"], got["metadata"].(map[string]any)["name"])
				assert.Equal(t, map[string]any{"ready": false}, got["status"])
			}
		})
	}
}

// normal is a value as JSON has it: YAML keeps integers apart from floats.
func normal(t *testing.T, value any) any {
	t.Helper()
	encoded, err := json.Marshal(value)
	require.NoError(t, err)
	var out any
	require.NoError(t, json.Unmarshal(encoded, &out))
	return out
}

func jsonSerializer() runtime.Serializer {
	info, _ := runtime.SerializerInfoForMediaType(Codecs.SupportedMediaTypes(), runtime.ContentTypeJSON)
	return info.Serializer
}

func validate(t *testing.T, object runtime.Object) field.ErrorList {
	t.Helper()
	switch object := object.(type) {
	case *infrastructure.MetalStackCluster:
		return validation.ValidateCluster(object)
	case *infrastructure.MetalStackMachine:
		return validation.ValidateMachine(object)
	case *infrastructure.MetalStackFirewall:
		return validation.ValidateFirewall(object)
	case *infrastructure.MetalStackMachineTemplate:
		return validation.ValidateMachineTemplate(object)
	case *infrastructure.MetalStackClusterTemplate:
		return validation.ValidateClusterTemplate(object)
	case *infrastructure.MetalStackRemediation:
		return validation.ValidateRemediation(object)
	case *infrastructure.MetalStackRemediationTemplate:
		return validation.ValidateRemediationTemplate(object)
	case *infrastructure.MetalStackNetwork:
		return validation.ValidateNetwork(object)
	case *infrastructure.MetalStackIP:
		return validation.ValidateIP(object)
	default:
		t.Fatalf("no validation for %T", object)
		return nil
	}
}
