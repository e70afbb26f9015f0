// SPDX-License-Identifier: Apache-2.0

package scheme

import (
	"bytes"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// RedactingSerializer returns a serializer whose errors do not quote the body of an
// Allocation that it cannot decode, since it may contain user data. The generic
// server quotes the first 30 bytes of a body that is not JSON, and all of a body whose
// apiVersion has no version.
func RedactingSerializer(s runtime.NegotiatedSerializer) runtime.NegotiatedSerializer {
	return redactingSerializer{s}
}

type redactingSerializer struct{ runtime.NegotiatedSerializer }

// DecoderToVersion implements runtime.NegotiatedSerializer.
func (s redactingSerializer) DecoderToVersion(decoder runtime.Decoder, gv runtime.GroupVersioner) runtime.Decoder {
	return redactingDecoder{s.NegotiatedSerializer.DecoderToVersion(decoder, gv)}
}

type redactingDecoder struct{ runtime.Decoder }

// Decode implements runtime.Decoder.
func (d redactingDecoder) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	obj, gvk, err := d.Decoder.Decode(data, defaults, into)
	_, isAllocation := into.(*infrastructure.Allocation)
	if !isAllocation || err == nil || obj != nil && runtime.IsStrictDecodingError(err) {
		return obj, gvk, err
	}
	expected := StorageVersion.WithKind("Allocation")
	if defaults != nil {
		expected = *defaults
	}
	// With a kind, the generic server has no reason to quote what it was sent.
	return nil, &expected, redact(err, data, expected)
}

const (
	// minQuote is how many bytes in a row make a quotation.
	minQuote = 12
	// maxErrorLength is how long an error may be that quotes nothing.
	maxErrorLength = 512
)

// redact returns the error, or one in its place if it quotes the body.
func redact(err error, body []byte, expected schema.GroupVersionKind) error {
	text := err.Error()
	switch {
	case runtime.IsMissingVersion(err), runtime.IsNotRegisteredError(err):
		return fmt.Errorf("unsupported apiVersion or kind: must be %q and %q, or omitted", expected.GroupVersion(), expected.Kind)
	case len(text) > maxErrorLength:
		return errRedacted
	}
	for i := 0; i+minQuote <= len(text); i++ {
		if bytes.Contains(body, []byte(text[i:i+minQuote])) {
			return errRedacted
		}
	}
	return err
}

var errRedacted = errors.New("invalid body: details are withheld because they quote it")
