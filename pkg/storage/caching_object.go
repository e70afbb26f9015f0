// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"io"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"weak"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// cachingObject is an object of the view as lists and watches send it. It keeps its
// encodings, so that all that send it in the same form encode it once. The object in
// it must not change.
type cachingObject struct {
	object    runtime.Object
	encodings encodings
	// cache keeps the cachingObject after it was used, if it is marked as kept.
	cache *encodingCache
	kept  atomic.Bool
	state cacheState
}

// cachingEvent is an object of the view as watches send it. What it keeps is events; the
// object in them is encoded by its cachingObject.
type cachingEvent struct {
	*cachingObject
	events encodings
}

var (
	_ runtime.CacheableObject   = &cachingObject{}
	_ metav1.ObjectMetaAccessor = &cachingObject{}
	_ runtime.CacheableObject   = &cachingEvent{}
)

// CacheEncode implements runtime.CacheableObject.
func (e *cachingEvent) CacheEncode(id runtime.Identifier, encode func(runtime.Object, io.Writer) error, w io.Writer) error {
	if dependsOnTime(id) || !encodesEvent(id) {
		return e.cachingObject.CacheEncode(id, encode, w)
	}
	event, _, err := e.events.get(id, func(buffer *bytes.Buffer) (object []byte, err error) {
		return encodeAround(e.cachingObject, encode, buffer)
	})
	if err != nil {
		return err
	}
	return event.writeTo(w)
}

// CacheEncode implements runtime.CacheableObject.
func (o *cachingObject) CacheEncode(id runtime.Identifier, encode func(runtime.Object, io.Writer) error, w io.Writer) error {
	if dependsOnTime(id) {
		return encode(shallowCopy(o.object), w)
	}
	raw, err := o.encoding(id, encode)
	if err != nil {
		return err
	}
	_, err = w.Write(raw)
	return err
}

// encoding returns the object in one form, which does not depend on the time.
func (o *cachingObject) encoding(id runtime.Identifier, encode func(runtime.Object, io.Writer) error) ([]byte, error) {
	form, isNew, err := o.encodings.get(id, func(buffer *bytes.Buffer) ([]byte, error) {
		return nil, encode(shallowCopy(o.object), buffer)
	})
	if err != nil {
		return nil, err
	}
	if o.kept.Load() {
		o.cache.keep(o, isNew)
	}
	return form.raw, nil
}

// dependsOnTime reports whether the form shows more than the object: a Table shows
// ages.
func dependsOnTime(id runtime.Identifier) bool { return strings.Contains(string(id), "Kind=Table") }

// encodesEvent reports whether an encoder is that of whole events: it passes the object
// on to another one, which asks for the object's encoding.
func encodesEvent(id runtime.Identifier) bool {
	return strings.HasPrefix(string(id), `{"name":"watch",`)
}

// GetObject implements runtime.CacheableObject.
func (o *cachingObject) GetObject() runtime.Object { return o.object.DeepCopyObject() }

// GetObjectMeta implements metav1.ObjectMetaAccessor, for those who read which object it
// is.
func (o *cachingObject) GetObjectMeta() metav1.Object {
	obj, err := meta.Accessor(shallowCopy(o.object))
	if err != nil {
		return nil
	}
	return obj
}

// DeepCopyObject implements runtime.Object. The copy has no encodings.
func (o *cachingObject) DeepCopyObject() runtime.Object {
	return &cachingObject{object: o.object.DeepCopyObject()}
}

// GetObjectKind implements runtime.Object. Objects of the view have no kind: their
// type says it.
func (o *cachingObject) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// cachingRef finds the cachingObject and the cachingEvent of an object for as long as
// they are in use, so that no encoding outlives its use: the view and the history hold
// none.
type cachingRef struct {
	mu     sync.Mutex
	object weak.Pointer[cachingObject]
	event  weak.Pointer[cachingEvent]
}

// objectOf returns the cachingObject of obj, which is the same object in every call.
func (r *cachingRef) objectOf(obj runtime.Object, cache *encodingCache) *cachingObject {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lockedObjectOf(obj, cache)
}

func (r *cachingRef) lockedObjectOf(obj runtime.Object, cache *encodingCache) *cachingObject {
	o := r.object.Value()
	if o == nil {
		o = &cachingObject{object: obj, cache: cache}
		r.object = weak.Make(o)
	}
	return o
}

// eventOf returns the cachingEvent of obj, which is the same object in every call.
func (r *cachingRef) eventOf(obj runtime.Object, cache *encodingCache) *cachingEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.event.Value()
	if e == nil {
		e = &cachingEvent{cachingObject: r.lockedObjectOf(obj, cache)}
		r.event = weak.Make(e)
	}
	return e
}

// existing returns the cachingObject if it is in use.
func (r *cachingRef) existing() *cachingObject {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.object.Value()
}

// encodings are the forms that something was encoded in.
type encodings struct {
	mu    sync.Mutex
	forms map[runtime.Identifier]*encoding
}

// encoding is one form; raw is empty until it is encoded, and does not change any more then.
type encoding struct {
	mu  sync.Mutex
	raw []byte
	// object is of an event what follows raw, with its own end and that of the event, unless
	// raw is the whole event. It is shared with the encodings of the object.
	object []byte
	// whole is the event in one piece, if it was used more than once.
	whole []byte
	used  bool
}

var buffers = sync.Pool{New: func() any { return &bytes.Buffer{} }}

// maxPooledBuffer is how large a buffer may be to be used again.
const maxPooledBuffer = 64 << 10

// get returns the encoding, and whether it is a new one. One caller encodes, and the
// others wait for it. An error is not kept.
func (e *encodings) get(id runtime.Identifier, encode func(*bytes.Buffer) (object []byte, err error)) (form *encoding, isNew bool, err error) {
	form = e.form(id)
	form.mu.Lock()
	defer form.mu.Unlock()
	if form.raw != nil {
		return form, false, nil
	}
	buffer := buffers.Get().(*bytes.Buffer)
	buffer.Reset()
	object, err := encode(buffer)
	if err != nil {
		return nil, false, err
	}
	form.raw, form.object = bytes.Clone(buffer.Bytes()), object
	putBuffer(buffer)
	return form, true, nil
}

func putBuffer(buffer *bytes.Buffer) {
	if buffer.Cap() <= maxPooledBuffer {
		buffers.Put(buffer)
	}
}

func (e *encodings) form(id runtime.Identifier) *encoding {
	e.mu.Lock()
	defer e.mu.Unlock()
	form := e.forms[id]
	if form == nil {
		form = &encoding{}
		if e.forms == nil {
			e.forms = map[runtime.Identifier]*encoding{}
		}
		e.forms[id] = form
	}
	return form
}

// size is that of all forms together.
func (e *encodings) size() (bytes int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, form := range e.forms {
		form.mu.Lock()
		bytes += int64(len(form.raw))
		form.mu.Unlock()
	}
	return bytes
}

// shallowCopy returns a copy of an object that shares everything but its outermost
// fields: the encoder of a response writes the kind into what it encodes, for
// as long as that takes, and the object is shared.
func shallowCopy(obj runtime.Object) runtime.Object {
	shared := reflect.ValueOf(obj).Elem()
	head := reflect.New(shared.Type())
	head.Elem().Set(shared)
	return head.Interface().(runtime.Object)
}
