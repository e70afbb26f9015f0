// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"io"
	"reflect"
	"strings"
	"sync"
	"weak"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// cachingObject is an object of the view as watches send it. It keeps its
// encodings, so that all watches that send it in the same form encode it once.
// The object in it must not change.
type cachingObject struct {
	object runtime.Object

	mu        sync.Mutex
	encodings map[runtime.Identifier]*encoding
}

var (
	_ runtime.CacheableObject   = &cachingObject{}
	_ metav1.ObjectMetaAccessor = &cachingObject{}
)

// encoding is an object in one form; raw is empty until it is encoded.
type encoding struct {
	mu  sync.Mutex
	raw []byte
}

// CacheEncode implements runtime.CacheableObject. An error is not kept.
func (o *cachingObject) CacheEncode(id runtime.Identifier, encode func(runtime.Object, io.Writer) error, w io.Writer) error {
	if dependsOnTime(id) {
		return encode(shallowCopy(o.object), w)
	}
	e := o.encoding(id)
	raw, err := e.get(func(buffer io.Writer) error { return encode(shallowCopy(o.object), buffer) })
	if err != nil {
		return err
	}
	_, err = w.Write(raw)
	return err
}

// dependsOnTime reports whether the form shows more than the object: a Table shows
// ages.
func dependsOnTime(id runtime.Identifier) bool { return strings.Contains(string(id), "Kind=Table") }

func (o *cachingObject) encoding(id runtime.Identifier) *encoding {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.encodings[id]
	if e == nil {
		e = &encoding{}
		if o.encodings == nil {
			o.encodings = map[runtime.Identifier]*encoding{}
		}
		o.encodings[id] = e
	}
	return e
}

// get returns the encoding. One caller encodes, and the others wait for it.
func (e *encoding) get(encode func(io.Writer) error) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.raw != nil {
		return e.raw, nil
	}
	var buffer bytes.Buffer
	if err := encode(&buffer); err != nil {
		return nil, err
	}
	e.raw = buffer.Bytes()
	return e.raw, nil
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

// cachingRef finds the cachingObject of an object for as long as a watch has it to
// send, so that no encoding outlives its use: the view and the history hold none.
type cachingRef struct {
	mu  sync.Mutex
	ref weak.Pointer[cachingObject]
}

// of returns the cachingObject of obj, which is the same object in every call.
func (r *cachingRef) of(obj runtime.Object) *cachingObject {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.ref.Value()
	if o == nil {
		o = &cachingObject{object: obj}
		r.ref = weak.Make(o)
	}
	return o
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
