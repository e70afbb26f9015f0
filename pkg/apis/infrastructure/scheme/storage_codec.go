// SPDX-License-Identifier: Apache-2.0

package scheme

import (
	"bytes"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
)

// newStorageCodec returns a codec of JSON in one version, which encodes as the legacy codec
// does. It decodes an object that it encoded without parsing it twice, which a start would do
// with every record.
func newStorageCodec(version schema.GroupVersion) runtime.Codec {
	serializer := json.NewSerializerWithOptions(leadingKind{}, Scheme, Scheme, json.SerializerOptions{})
	return Codecs.CodecForVersions(serializer, serializer, schema.GroupVersions{version}, nil)
}

// leadingKind finds the kind and version of an object that begins with them, as encoded objects
// do, and those of any other one by parsing it.
type leadingKind struct{}

// Interpret implements json.MetaFactory.
func (leadingKind) Interpret(data []byte) (*schema.GroupVersionKind, error) {
	if kind, rest, ok := leadingField(data, `{"kind":"`); ok {
		if apiVersion, _, ok := leadingField(rest, `,"apiVersion":"`); ok {
			gv, err := schema.ParseGroupVersion(apiVersion)
			if err != nil {
				return nil, err
			}
			gvk := gv.WithKind(kind)
			return &gvk, nil
		}
	}
	return json.DefaultMetaFactory.Interpret(data)
}

// leadingField returns the string that follows begin, if it has no escapes, and what follows it.
func leadingField(data []byte, begin string) (value string, rest []byte, ok bool) {
	data, ok = bytes.CutPrefix(data, []byte(begin))
	if !ok {
		return "", nil, false
	}
	end := bytes.IndexByte(data, '"')
	if end < 0 || bytes.IndexByte(data[:end], '\\') >= 0 {
		return "", nil, false
	}
	return string(data[:end]), data[end+1:], true
}
