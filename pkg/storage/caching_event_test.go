// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"unsafe"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apimachinery/pkg/watch"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/endpoints/handlers"
)

// eventEncoder is the encoder of events. It counts the bytes of objects that it encodes once
// more.
type eventEncoder struct {
	apiruntime.Encoder
	again int
}

func (e *eventEncoder) Encode(obj apiruntime.Object, w io.Writer) error {
	e.again += len(obj.(*metav1.WatchEvent).Object.Raw)
	return e.Encoder.Encode(obj, w)
}

// sendEvents returns what a watch is sent, and how many bytes of objects were encoded once
// more.
func sendEvents(t *testing.T, info apiruntime.SerializerInfo, event, object apiruntime.Encoder, events ...watch.Event) (sent []byte, again int) {
	t.Helper()
	fake := watch.NewFakeWithChanSize(len(events), false)
	for _, e := range events {
		fake.Action(e.Type, e.Object)
	}
	fake.Stop()
	encoder := &eventEncoder{Encoder: event}
	server := handlers.WatchServer{
		Watching: fake, Scope: &handlers.RequestScope{}, MediaType: info.MediaType, Framer: info.StreamSerializer.Framer,
		Encoder: encoder, EmbeddedEncoder: object, TimeoutFactory: noTimeout{},
	}
	recorder := httptest.NewRecorder()
	server.HandleHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/pods", nil))
	return recorder.Body.Bytes(), encoder.again
}

// Events are, with every encoder of events and of the objects in them, what they are if both
// are encoded for each watch; and as JSON, the object is encoded once.
func TestCachingEvent_EqualsFreshEncoding(t *testing.T) {
	t.Parallel()
	withCBOR := serializer.NewCodecFactory(scheme, serializer.WithSerializer(cbor.NewSerializerInfo))
	pod := largePod(1)
	pod.Annotations["text"] = "<&>\u2028 é \n null}\n"
	streams, once := 0, 0
	for _, info := range withCBOR.SupportedMediaTypes() {
		if info.StreamSerializer == nil || info.MediaType == apiruntime.ContentTypeProtobuf {
			continue // Pods of the tests have no protobuf form.
		}
		stream := withCBOR.EncoderForVersion(info.StreamSerializer.Serializer, examplev1.SchemeGroupVersion)
		for _, serializer := range []apiruntime.Serializer{info.Serializer, info.PrettySerializer} {
			if serializer == nil {
				continue
			}
			encoder := withCBOR.EncoderForVersion(serializer, examplev1.SchemeGroupVersion)
			var ref cachingRef
			event := ref.eventOf(pod, nil)
			want, _ := sendEvents(t, info, stream, encoder, watch.Event{Type: watch.Added, Object: pod}, watch.Event{Type: watch.Modified, Object: pod})
			for range 2 {
				got, again := sendEvents(t, info, stream, encoder, watch.Event{Type: watch.Added, Object: event}, watch.Event{Type: watch.Modified, Object: event})
				if !bytes.Equal(got, want) || len(got) == 0 {
					t.Errorf("%s in %s: %s, not %s", encoder.Identifier(), info.MediaType, got, want)
				}
				if info.MediaType == apiruntime.ContentTypeJSON && serializer == info.Serializer {
					if once++; again > 2*len(placeholder) {
						t.Errorf("%d bytes of the object were encoded once more", again)
					}
				}
			}
			streams++
		}
	}
	if streams < 3 || once != 2 {
		t.Errorf("%d streams, %d of them of plain JSON", streams, once)
	}
}

// heldWriter holds what it is given until another watch was given the same event.
type heldWriter struct {
	given []*byte
	next  func() error
}

func (h *heldWriter) Write(p []byte) (int, error) {
	if h.given = append(h.given, unsafe.SliceData(p)); len(h.given) == 4 {
		return len(p), nil
	}
	return len(p), h.next()
}

// A writer keeps what it is given until its client has taken it: many watches of one change
// hold one copy of it.
func TestCachingEvent_WatchesOfOneChangeShareItsBytes(t *testing.T) {
	t.Parallel()
	var ref cachingRef
	event := ref.eventOf(largePod(1), nil)
	object := codecs.EncoderForVersion(codecs.SupportedMediaTypes()[0].Serializer, examplev1.SchemeGroupVersion)
	encode := func(obj apiruntime.Object, w io.Writer) error {
		var inside bytes.Buffer
		if err := object.Encode(obj, &inside); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "{\"type\":\"ADDED\",\"object\":%s}\n", bytes.TrimSpace(inside.Bytes()))
		return err
	}
	var w heldWriter
	w.next = func() error { return event.CacheEncode(`{"name":"watch","x":"y"}`, encode, &w) }
	if err := w.next(); err != nil {
		t.Fatal(err)
	}
	if len(w.given) != 4 || w.given[1] != w.given[2] || w.given[2] != w.given[3] {
		t.Errorf("given to the writers: %v", w.given)
	}
}

func TestIsCompactJSON_IsFalseForOtherForms(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]bool{
		"{\"kind\":\"Pod\"}\n":               true,
		"{\"kind\":\"Pod\"}":                 false,
		"{\n  \"kind\": \"Pod\"\n}":          false,
		"{\n  \"kind\": \"Pod\"\n}\n":        false,
		"{\"kind\":\"Pod\"}\n{\"kind\":0}\n": false,
		"kind: Pod\n":                        false,
		"\xd9\xd9\xf7\xa1":                   false,
		"null\n":                             false,
		"":                                   false,
	} {
		if isCompactJSON([]byte(raw)) != want {
			t.Errorf("%q: %t", raw, !want)
		}
	}
}
