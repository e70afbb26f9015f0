package scheme

import (
	"bytes"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// Discreet never quotes the body of an Allocation that it cannot decode: there
// may be user data in it. The generic server quotes the first 30 bytes of what
// is no JSON, and all of a body whose apiVersion has no version.
func Discreet(s runtime.NegotiatedSerializer) runtime.NegotiatedSerializer {
	return discreet{s}
}

type discreet struct{ runtime.NegotiatedSerializer }

// DecoderToVersion implements runtime.NegotiatedSerializer.
func (d discreet) DecoderToVersion(decoder runtime.Decoder, gv runtime.GroupVersioner) runtime.Decoder {
	return discreetDecoder{d.NegotiatedSerializer.DecoderToVersion(decoder, gv)}
}

type discreetDecoder struct{ runtime.Decoder }

// Decode implements runtime.Decoder.
func (d discreetDecoder) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	obj, gvk, err := d.Decoder.Decode(data, defaults, into)
	_, secret := into.(*infrastructure.Allocation)
	if !secret || err == nil || obj != nil && runtime.IsStrictDecodingError(err) {
		return obj, gvk, err
	}
	expected := StorageVersion.WithKind("Allocation")
	if defaults != nil {
		expected = *defaults
	}
	// With a kind, the generic server has no reason to quote what it was sent.
	return nil, &expected, unquoted(err, data, expected)
}

const (
	// quotes is how many bytes in a row make a quotation.
	quotes = 12
	// longest is how long an error may be that quotes nothing.
	longest = 512
)

// unquoted is the error, or one in its place if it quotes the body.
func unquoted(err error, body []byte, expected schema.GroupVersionKind) error {
	text := err.Error()
	switch {
	case runtime.IsMissingVersion(err), runtime.IsNotRegisteredError(err):
		return fmt.Errorf("apiVersion and kind: only %q and %q are allowed, or nothing", expected.GroupVersion(), expected.Kind)
	case len(text) > longest:
		return errUnreadable
	}
	for i := 0; i+quotes <= len(text); i++ {
		if bytes.Contains(body, []byte(text[i:i+quotes])) {
			return errUnreadable
		}
	}
	return err
}

var errUnreadable = errors.New("it cannot be decoded; the reason is withheld, because it quotes the body")
