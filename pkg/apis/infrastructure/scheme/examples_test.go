// SPDX-License-Identifier: Apache-2.0

package scheme

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func TestExamples_AreValidWithoutUnknownFields(t *testing.T) {
	t.Parallel()

	strict := serializer.NewCodecFactory(Scheme, serializer.EnableStrict).UniversalDecoder(infrastructure.SchemeGroupVersion)
	files, err := filepath.Glob(filepath.Join(examples, "*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, document := range bytes.Split(content, []byte("\n---\n")) {
			var kind struct{ Kind string }
			require.NoError(t, yaml.Unmarshal(document, &kind))
			if kind.Kind == "Namespace" {
				continue
			}
			object, err := runtime.Decode(strict, document)
			require.NoError(t, err, file)
			assert.Empty(t, validate(t, object), file)
		}
	}
}
