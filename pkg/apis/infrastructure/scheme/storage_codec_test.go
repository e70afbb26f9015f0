// SPDX-License-Identifier: Apache-2.0

package scheme

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func TestStorageCodec_AgreesWithTheLegacyCodec(t *testing.T) {
	t.Parallel()
	legacy := Codecs.LegacyCodec(StorageVersion)
	obj := &infrastructure.MetalStackMachine{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Namespace: "team-a", Labels: map[string]string{"a": "<&>"}}}
	encoded, err := runtime.Encode(StorageCodec, obj)
	require.NoError(t, err)
	want, err := runtime.Encode(legacy, obj)
	require.NoError(t, err)
	assert.Equal(t, string(want), string(encoded))
	_, _, ok := leadingField(encoded, `{"kind":"`)
	assert.True(t, ok, "what is encoded begins with the kind")
	const group = `"apiVersion":"infrastructure.cluster.x-k8s.io/`
	for _, value := range []string{
		string(encoded),
		`{"kind":"MetalStackMachine",` + group + `v1alpha3","spec":{"image":"a"}}`,
		`{` + group + `v1alpha4","kind":"MetalStackMachine","spec":{"image":"a"}}`,
		`{ "kind" : "MetalStackMachine", ` + group + `v1alpha4"}`,
		`{"kind":"Metal\u0053tackMachine",` + group + `v1alpha4"}`,
		`{"kind":"MetalStackMachine",` + group + `v9"}`, `{"kind":"Nothing",` + group + `v1alpha4"}`,
		`{"kind":"MetalStackMachine",` + group + `a/b"}`, `{"kind":"",` + group + `v1alpha4"}`, `{"kind":"MetalStackMachine","apiVersion":""}`,
		`{"kind":"MetalStackMachine",` + group + `v1alpha4","spec":3}`, `{"kind":"MetalStackMachine",` + group + `v1alpha4"} x`,
		`{"kind":"MetalStackMachine",` + group + `v1alpha4`, `{"kind":"MetalStackMachine`, `{"kind":"MetalStackMachine"}`, `{}`, `null`, ``, `[]`,
	} {
		got, err := runtime.Decode(StorageCodec, []byte(value))
		want, wantErr := runtime.Decode(legacy, []byte(value))
		assert.Equal(t, wantErr == nil, err == nil, "%s: %v, %v", value, wantErr, err)
		assert.Equal(t, want, got, value)
	}
}
