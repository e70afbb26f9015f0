// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/apihelpers"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// encodedForm is a form in which objects, and lists by their items, are sent as the
// storage keeps their encodings.
type encodedForm int

const (
	objectForm   encodedForm = iota + 1 // the object, or the kind's own list, as JSON
	metadataForm                        // a PartialObjectMetadataList, as JSON
	tableForm                           // a Table, as JSON
)

type encodedFormKey struct{}

// WithKeptEncodings has objects as JSON, and lists in their usual forms, sent from the
// encodings that the storage keeps. All other forms, and answers that the audit log
// records, are encoded by the generic server.
//
// The generic server transforms a list into a Table or a PartialObjectMetadataList
// itself, and then asks no item for its encoding. So the request goes on without asking
// for that, and REST.List does it.
func WithKeptEncodings(next http.Handler, serializer runtime.NegotiatedSerializer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if form := encodedFormOf(req, serializer); form != 0 {
			req = req.WithContext(context.WithValue(req.Context(), encodedFormKey{}, form))
			req.Header = req.Header.Clone()
			req.Header.Set("Accept", runtime.ContentTypeJSON)
		}
		next.ServeHTTP(w, req)
	})
}

// encodedFormOf returns 0 if the generic server is to encode the answer.
func encodedFormOf(req *http.Request, serializer runtime.NegotiatedSerializer) encodedForm {
	info, known := request.RequestInfoFrom(req.Context())
	if !known || (info.Verb != "list" && info.Verb != "get") || info.APIGroup != infrastructure.GroupName || info.Subresource != "" {
		return 0
	}
	// The audit log takes managed fields out of what it records.
	if level := audit.AuditContextFrom(audit.WithAuditContext(req.Context())).GetEventLevel(); !level.Less(auditinternal.LevelRequestResponse) {
		return 0
	}
	mediaType, output, err := negotiation.NegotiateOutputMediaType(req, serializer, restrictions)
	plain, served := runtime.SerializerInfoForMediaType(serializer.SupportedMediaTypes(), runtime.ContentTypeJSON)
	if err != nil || !served || output.MediaType != runtime.ContentTypeJSON || output.Serializer.Identifier() != plain.Serializer.Identifier() {
		return 0
	}
	switch target := mediaType.Convert; {
	case target == nil:
		return objectForm
	case info.Verb == "get":
		return 0
	case *target == metav1.SchemeGroupVersion.WithKind("PartialObjectMetadataList"):
		return metadataForm
	case *target == metav1.SchemeGroupVersion.WithKind("Table") && !req.URL.Query().Has("includeObject"):
		return tableForm
	}
	return 0
}

// restrictions are those of the generic server's own handlers.
var restrictions = &handlers.RequestScope{TableConvertor: rest.NewDefaultTableConvertor(schema.GroupResource{}), MetaGroupVersion: metav1.SchemeGroupVersion}

// encodedList is a list that is encoded from the encodings of its items.
type encodedList struct {
	// Object is the list without its items.
	runtime.Object
	items *storage.Listing
}

var _ runtime.CacheableObject = &encodedList{}

// newEncodedList returns the list, which has no items, in the form that is wanted.
func newEncodedList(ctx context.Context, form encodedForm, list runtime.Object, items *storage.Listing, table rowConvertor) (runtime.Object, error) {
	l := &encodedList{list, items}
	switch form {
	case metadataForm:
		return newEncodedMetadataList(l)
	case tableForm:
		return newEncodedTable(ctx, l, table)
	default:
		return l, nil
	}
}

// CacheEncode implements runtime.CacheableObject.
func (l *encodedList) CacheEncode(id runtime.Identifier, encode func(runtime.Object, io.Writer) error, w io.Writer) error {
	encoding := func(i int) ([]byte, bool, error) {
		raw, err := l.items.Encoding(i, id, encode)
		if err != nil {
			return nil, false, err
		}
		fields, ok := fieldsWithoutKind(raw)
		return fields, ok, nil
	}
	if l.items.Len() > 0 {
		if _, ok, err := encoding(0); err != nil {
			return err
		} else if !ok {
			return encode(l.GetObject(), w)
		}
	}
	return writeList(w, l.items.Len(), func(w io.Writer) error { return encode(l.Object, w) }, func(i int, w *bufio.Writer) error {
		fields, ok, err := encoding(i)
		if err != nil {
			return err
		}
		if !ok {
			return errForm
		}
		_ = w.WriteByte('{')
		_, err = w.Write(fields)
		return err
	})
}

// GetObject implements runtime.CacheableObject.
func (l *encodedList) GetObject() runtime.Object {
	list := l.Object.DeepCopyObject()
	utilruntime.Must(l.items.AppendTo(list))
	return list
}

// encodedTransform is a list that was transformed. The encoder that it is given is that
// of the list.
type encodedTransform struct {
	// Object is the transformed list without its items.
	runtime.Object
	len  int
	item func(i int, w *bufio.Writer) error
	list *encodedList
}

var _ runtime.CacheableObject = &encodedTransform{}

// CacheEncode implements runtime.CacheableObject.
func (l *encodedTransform) CacheEncode(_ runtime.Identifier, _ func(runtime.Object, io.Writer) error, w io.Writer) error {
	return writeList(w, l.len, func(w io.Writer) error { return metaEncoder().Encode(l.Object, w) }, l.item)
}

// GetObject implements runtime.CacheableObject.
func (l *encodedTransform) GetObject() runtime.Object { return l.list.GetObject() }

// metaEncoder is the one that the generic server encodes transformed objects with.
func metaEncoder() runtime.Encoder {
	codecs := apihelpers.GetMetaInternalVersionCodecs()
	info, _ := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), runtime.ContentTypeJSON)
	return codecs.EncoderForVersion(info.Serializer, metav1.SchemeGroupVersion)
}

// The forms of items of transformed lists.
const (
	metadataID = runtime.Identifier("PartialObjectMetadata")
	rowID      = runtime.Identifier("PartialObjectMetadata of a row")
)

var partialKind = metav1.SchemeGroupVersion.WithKind("PartialObjectMetadata")

// encodePartial encodes the metadata of an object as an item, or as the object of a row.
func encodePartial(obj runtime.Object, w io.Writer, of func(Object) *metav1.PartialObjectMetadata) error {
	kinded, ok := obj.(Object)
	if !ok {
		return fmt.Errorf("unexpected object type %T", obj)
	}
	partial := of(kinded)
	partial.SetGroupVersionKind(partialKind)
	raw, err := json.Marshal(partial)
	if err != nil {
		return err
	}
	_, err = w.Write(raw)
	return err
}

func newEncodedMetadataList(l *encodedList) (runtime.Object, error) {
	from, err := meta.ListAccessor(l.Object)
	if err != nil {
		return nil, err
	}
	list := &metav1.PartialObjectMetadataList{ListMeta: metav1.ListMeta{
		ResourceVersion: from.GetResourceVersion(), Continue: from.GetContinue(), RemainingItemCount: from.GetRemainingItemCount(),
	}}
	if l.items.Len() > 0 {
		list.Items = []metav1.PartialObjectMetadata{}
	}
	encode := func(obj runtime.Object, w io.Writer) error {
		return encodePartial(obj, w, func(o Object) *metav1.PartialObjectMetadata { return meta.AsPartialObjectMetadata(o) })
	}
	return &encodedTransform{Object: list, list: l, len: l.items.Len(), item: func(i int, w *bufio.Writer) error {
		raw, err := l.items.Encoding(i, metadataID, encode)
		if err != nil {
			return err
		}
		_, err = w.Write(raw)
		return err
	}}, nil
}

// rowConvertor makes tables of which the cells can be had alone.
type rowConvertor interface {
	rest.TableConvertor
	cellsOf(obj runtime.Object) ([]any, error)
}

func newEncodedTable(ctx context.Context, l *encodedList, convertor rowConvertor) (runtime.Object, error) {
	table, err := convertor.ConvertToTable(ctx, l.Object, &metav1.TableOptions{})
	if err != nil {
		return nil, err
	}
	encode := func(obj runtime.Object, w io.Writer) error { return encodePartial(obj, w, rowMetadata) }
	return &encodedTransform{Object: table, list: l, len: l.items.Len(), item: func(i int, w *bufio.Writer) error {
		partial, err := l.items.Encoding(i, rowID, encode)
		if err != nil {
			return err
		}
		cells, err := convertor.cellsOf(l.items.Object(i))
		if err != nil {
			return err
		}
		raw, err := json.Marshal(cells)
		if err != nil {
			return err
		}
		_, _ = w.WriteString(`{"cells":`)
		_, _ = w.Write(raw)
		_, _ = w.WriteString(`,"object":`)
		_, _ = w.Write(partial)
		return w.WriteByte('}')
	}}, nil
}

// errForm is why a list cannot be put together.
var errForm = errors.New("encoding of an object or of an empty list has an unexpected form")

// listEnd is how a list or a table without items ends.
var listEnd = []byte("[]}\n")

// writeChunk is how much of a list is written at a time. The generic server decides by the
// first of it whether to compress, from 128 KiB on.
const writeChunk = 256 << 10

var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, writeChunk) }}

// writeList writes a list: encodeEmpty writes it without items, and item writes one item.
func writeList(to io.Writer, n int, encodeEmpty func(io.Writer) error, item func(i int, w *bufio.Writer) error) error {
	var empty bytes.Buffer
	if err := encodeEmpty(&empty); err != nil {
		return err
	}
	if n == 0 {
		_, err := to.Write(empty.Bytes())
		return err
	}
	head, ok := bytes.CutSuffix(empty.Bytes(), listEnd)
	if !ok {
		return errForm
	}
	w := writers.Get().(*bufio.Writer)
	w.Reset(to)
	defer func() {
		w.Reset(nil)
		writers.Put(w)
	}()
	// A bufio.Writer keeps its first error.
	_, _ = w.Write(head)
	for i := range n {
		_ = w.WriteByte("[,"[min(i, 1)])
		if err := item(i, w); err != nil {
			return err
		}
	}
	_, _ = w.Write(listEnd[1:])
	return w.Flush()
}

// fieldsWithoutKind returns the encoding of an object from its third field on: the items of
// a list have no kind and no apiVersion. It is false for another form of encoding.
func fieldsWithoutKind(raw []byte) ([]byte, bool) {
	fields, ok := bytes.CutPrefix(raw, []byte(`{"kind":"`))
	if ok {
		_, fields, ok = bytes.Cut(fields, []byte(`","apiVersion":"`))
	}
	if ok {
		_, fields, ok = bytes.Cut(fields, []byte(`",`))
	}
	if ok {
		fields, ok = bytes.CutSuffix(fields, []byte("\n"))
	}
	return fields, ok
}
