// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/recordformat"
)

// record is the Kubernetes half of an object, as the ledger has it. It is
// immutable.
type record struct {
	obj     runtime.Object // decoded; without a metal half
	refs    []metal.Ref    // the metal that it names
	version string         // in the ledger
	sum     [sha256.Size]byte
	size    int
	expires time.Time // zero: never
	origin  Origin
	// needsRewrite: the ledger has other bytes than would be written today.
	needsRewrite bool
}

// envelope is the value of a record in the ledger. Its first field is the format, which
// pkg/recordformat reads.
type envelope struct {
	// Expires is set for objects that were written with a time to live.
	Expires *time.Time `json:"expires,omitempty"`
	// Namespace is set for objects of a Namespace whose uid was known.
	Namespace *Origin `json:"namespace,omitempty"`
	// Object is in its storage version.
	Object json.RawMessage `json:"object"`
}

// draft is a record on its way into the ledger.
type draft struct {
	record
	value []byte
}

// encode makes a draft of obj, which it may modify.
func (s *Store) encode(obj runtime.Object, expires time.Time, origin Origin) (*draft, error) {
	if s.projector != nil {
		obj = obj.DeepCopyObject()
		s.projector.Strip(obj)
	}
	if err := s.versioner.PrepareObjectForStorage(obj); err != nil {
		return nil, fmt.Errorf("failed to prepare the object for the ledger: %w", err)
	}
	data, err := runtime.Encode(s.codec, obj)
	if err != nil {
		return nil, fmt.Errorf("failed to encode the object for the ledger: %w", err)
	}
	// What is shown is what would be read back, so that a restart changes nothing.
	decoded, err := runtime.Decode(s.codec, data)
	if err != nil {
		return nil, fmt.Errorf("failed to decode the object that was encoded for the ledger: %w", err)
	}
	d := &draft{record: record{obj: decoded, size: len(data), expires: expires, origin: origin}}
	data = bytes.TrimSpace(data)
	d.sum = sha256.Sum256(data)
	if !json.Valid(data) {
		return nil, errors.New("storage codec must encode to JSON")
	}
	if d.value, err = encodeEnvelope(data, expires, origin); err != nil {
		return nil, err
	}
	return d, nil
}

// encodeEnvelope writes the envelope around data, which is valid JSON, by hand: a json.Marshal
// would rewrite the object's bytes.
func encodeEnvelope(data []byte, expires time.Time, origin Origin) ([]byte, error) {
	var value bytes.Buffer
	value.Grow(len(data) + 192)
	value.WriteString(recordformat.Prefix())
	value.WriteByte(',')
	if !expires.IsZero() {
		fmt.Fprintf(&value, `"expires":%q,`, expires.UTC().Format(time.RFC3339Nano))
	}
	if origin != (Origin{}) {
		namespace, err := json.Marshal(origin)
		if err != nil {
			return nil, err
		}
		value.WriteString(`"namespace":`)
		value.Write(namespace)
		value.WriteByte(',')
	}
	value.WriteString(`"object":`)
	value.Write(data)
	value.WriteByte('}')
	return value.Bytes(), nil
}

// decode reads a record of the ledger.
func (s *Store) decode(r ledger.Record) (*record, error) {
	if rec := s.decodeCanonical(r); rec != nil {
		return rec, nil
	}
	return s.decodeAny(r)
}

// objectField begins an envelope's last field. It cannot be part of a string: its quotes would
// be escaped.
var objectField = []byte(`"object":`)

// decodeCanonical is decodeAny for a record whose bytes are those that would be written today,
// as nearly all are; nil for others. It parses the object once, where decodeAny does three
// times.
func (s *Store) decodeCanonical(r ledger.Record) *record {
	head, data, found := bytes.Cut(r.Value, objectField)
	fields, written := bytes.CutPrefix(head, []byte(recordformat.Prefix()+","))
	data, closed := bytes.CutSuffix(data, []byte("}"))
	if !found || !written || !closed || !bytes.HasPrefix(data, []byte("{")) || !bytes.HasSuffix(data, []byte("}")) {
		return nil
	}
	var e envelope
	if len(fields) > 0 && json.Unmarshal(slices.Concat([]byte("{"), bytes.TrimSuffix(fields, []byte(",")), []byte("}")), &e) != nil {
		return nil
	}
	e.Object = data
	rec := e.record(r.Version)
	if canonical, err := encodeEnvelope(data, rec.expires, rec.origin); err != nil || !bytes.Equal(canonical, r.Value) {
		return nil
	}
	// What follows the object in the value, if it is not the last field, is an error here.
	obj, err := runtime.Decode(s.codec, data)
	if err != nil {
		return nil
	}
	rec.obj = obj
	return rec
}

// record is what an envelope says, without its object.
func (e *envelope) record(version string) *record {
	rec := &record{version: version, sum: sha256.Sum256(e.Object), size: len(e.Object) + 1}
	if e.Expires != nil {
		rec.expires = *e.Expires
	}
	if e.Namespace != nil {
		rec.origin = *e.Namespace
	}
	return rec
}

// decodeAny reads a record of any form.
func (s *Store) decodeAny(r ledger.Record) (*record, error) {
	if err := recordformat.Check(r.Value); err != nil {
		return nil, fmt.Errorf("invalid record %s: %w", r.Key, err)
	}
	var e envelope
	if err := json.Unmarshal(r.Value, &e); err != nil {
		return nil, fmt.Errorf("invalid record %s: %w", r.Key, err)
	}
	obj, err := runtime.Decode(s.codec, e.Object)
	if err != nil {
		return nil, fmt.Errorf("failed to decode the object in record %s: %w", r.Key, err)
	}
	rec := e.record(r.Version)
	rec.obj = obj
	canonical, err := encodeEnvelope(e.Object, rec.expires, rec.origin)
	rec.needsRewrite = err != nil || !bytes.Equal(canonical, r.Value)
	return rec, nil
}

// sameUID is false if a and b are known to be two objects of one name.
func sameUID(a, b runtime.Object) bool {
	one, errOne := meta.Accessor(a)
	other, errOther := meta.Accessor(b)
	if errOne != nil || errOther != nil {
		return true
	}
	return one.GetUID() == other.GetUID() || one.GetUID() == "" || other.GetUID() == ""
}
