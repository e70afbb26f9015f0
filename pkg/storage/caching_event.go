// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"io"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
)

// An event as JSON is the encoding of its object with something around it. The encoder of
// events encodes the encoded object once more, which takes as long as the object took, to
// write the very same bytes. So it is given a placeholder.
var (
	placeholder = []byte("null")
	// placeholderEnd is how an event with the placeholder ends, and eventEnd how one ends.
	placeholderEnd = []byte("null}\n")
	eventEnd       = []byte("}\n")
)

// eventObject is the object in an event that is being encoded. Where that is possible, it
// gives the encoder the placeholder and keeps the encoding.
type eventObject struct {
	*cachingObject
	encoded []byte // nil if the encoder was given the encoding itself
}

var _ runtime.CacheableObject = &eventObject{}

// CacheEncode implements runtime.CacheableObject.
func (o *eventObject) CacheEncode(id runtime.Identifier, encode func(runtime.Object, io.Writer) error, w io.Writer) error {
	if dependsOnTime(id) {
		return o.cachingObject.CacheEncode(id, encode, w)
	}
	raw, err := o.encoding(id, encode)
	if err != nil {
		return err
	}
	if isCompactJSON(raw) {
		o.encoded, raw = raw, placeholder
	}
	_, err = w.Write(raw)
	return err
}

// isCompactJSON reports whether an encoding is what encoding/json writes: JSON in one line.
// If it is encoded as a part of something else, nothing of it changes but that the end of
// the line is left out.
func isCompactJSON(raw []byte) bool {
	return bytes.HasPrefix(raw, []byte(`{"`)) && bytes.IndexByte(raw, '\n') == len(raw)-1
}

// encodeAround encodes an event into the buffer: up to its object, which it returns, or the
// whole event.
func encodeAround(o *cachingObject, encode func(runtime.Object, io.Writer) error, buffer *bytes.Buffer) (object []byte, err error) {
	inside := &eventObject{cachingObject: o}
	if err := encode(inside, buffer); err != nil {
		return nil, err
	}
	if inside.encoded == nil {
		return nil, nil
	}
	if bytes.HasSuffix(buffer.Bytes(), placeholderEnd) {
		buffer.Truncate(buffer.Len() - len(placeholderEnd))
		return inside.encoded, nil
	}
	// It is an event of another media type, or of another form.
	buffer.Reset()
	return nil, encode(o, buffer)
}

// writeTo writes an event, in one piece: the writer may make a frame of what it is given.
// A writer can take long, so what several watches send is put together once; an event of a
// watch's initial ones, which most often has no other reader, takes no memory.
func (e *encoding) writeTo(w io.Writer) error {
	if whole := e.joined(); whole != nil {
		_, err := w.Write(whole)
		return err
	}
	buffer := buffers.Get().(*bytes.Buffer)
	buffer.Reset()
	defer putBuffer(buffer)
	buffer.Write(e.raw)
	buffer.Write(e.object[:len(e.object)-1])
	buffer.Write(eventEnd)
	_, err := w.Write(buffer.Bytes())
	return err
}

// joined returns the whole event from its second use on.
func (e *encoding) joined() []byte {
	if e.object == nil {
		return e.raw
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.whole == nil && e.used {
		e.whole = slices.Concat(e.raw, e.object[:len(e.object)-1], eventEnd)
	}
	e.used = true
	return e.whole
}
