// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// encoders are those of every media type that a server can be made to serve.
func encoders() map[string]apiruntime.Encoder {
	all := map[string]apiruntime.Encoder{}
	withCBOR := serializer.NewCodecFactory(scheme, serializer.WithSerializer(cbor.NewSerializerInfo))
	add := func(s apiruntime.Serializer) {
		encoder := withCBOR.EncoderForVersion(s, examplev1.SchemeGroupVersion)
		all[string(encoder.Identifier())] = encoder
	}
	for _, info := range withCBOR.SupportedMediaTypes() {
		if info.MediaType == apiruntime.ContentTypeProtobuf {
			continue // Pods of the tests have no protobuf form.
		}
		add(info.Serializer)
		if info.PrettySerializer != nil {
			add(info.PrettySerializer)
		}
	}
	return all
}

func TestCachingObject_EncodesOncePerForm(t *testing.T) {
	t.Parallel()
	o := &cachingObject{object: largePod(1)}
	forms := encoders()
	var encoded atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		for _, form := range forms {
			wg.Go(func() {
				var want, got bytes.Buffer
				if err := form.Encode(largePod(1), &want); err != nil {
					t.Error(err)
				}
				encode := func(obj apiruntime.Object, w io.Writer) error {
					encoded.Add(1)
					return form.Encode(obj, w)
				}
				if err := o.CacheEncode(form.Identifier(), encode, &got); err != nil {
					t.Error(err)
				}
				if !bytes.Equal(got.Bytes(), want.Bytes()) {
					t.Errorf("%s: %s, not %s", form.Identifier(), got.Bytes(), want.Bytes())
				}
			})
		}
	}
	wg.Wait()
	if len(forms) < 4 || int(encoded.Load()) != len(forms) {
		t.Errorf("encoded %d times in %d forms", encoded.Load(), len(forms))
	}
	if p := o.object.(*example.Pod); p.Kind != "" || p.APIVersion != "" {
		t.Errorf("the object has got the kind %s %s", p.APIVersion, p.Kind)
	}
}

func TestCachingObject_FailedEncodingIsNotKept(t *testing.T) {
	t.Parallel()
	o := &cachingObject{object: largePod(1)}
	broken := errors.New("broken")
	encode := func(_ apiruntime.Object, w io.Writer) error {
		_, _ = w.Write([]byte("half"))
		return broken
	}
	var out bytes.Buffer
	if err := o.CacheEncode("json", encode, &out); !errors.Is(err, broken) || out.Len() > 0 {
		t.Errorf("%v, and %q", err, out.String())
	}
	func() {
		defer func() { _ = recover() }()
		_ = o.CacheEncode("json", func(apiruntime.Object, io.Writer) error { panic(broken) }, &out)
	}()
	encode = func(_ apiruntime.Object, w io.Writer) error {
		_, err := w.Write([]byte("whole"))
		return err
	}
	if err := o.CacheEncode("json", encode, &out); err != nil || out.String() != "whole" {
		t.Errorf("%v, and %q", err, out.String())
	}
}

func TestCachingObject_CopiesAreTheCallers(t *testing.T) {
	t.Parallel()
	o := &cachingObject{object: largePod(1)}
	o.GetObject().(*example.Pod).Labels["changed"] = "yes"
	o.GetObjectMeta().SetResourceVersion("9")
	o.DeepCopyObject().(*cachingObject).object.(*example.Pod).Labels["changed"] = "yes"
	if p := o.object.(*example.Pod); p.Labels["changed"] != "" || p.ResourceVersion != "" {
		t.Errorf("a copy has changed the object: %v at %q", p.Labels, p.ResourceVersion)
	}
}

// The object in an event is encoded once for all types of event, and for lists.
func TestCachingEvent_SharesEncodingOfItsObject(t *testing.T) {
	t.Parallel()
	var ref cachingRef
	obj := largePod(1)
	event, object := ref.eventOf(obj, nil), ref.objectOf(obj, nil)
	encoded := 0
	encodeObject := func(_ apiruntime.Object, w io.Writer) error {
		encoded++
		_, err := w.Write([]byte("{}"))
		return err
	}
	for _, id := range []apiruntime.Identifier{`{"name":"watch","eventType":"ADDED"}`, `{"name":"watch","eventType":"MODIFIED"}`} {
		err := event.CacheEncode(id, func(obj apiruntime.Object, w io.Writer) error {
			return obj.(apiruntime.CacheableObject).CacheEncode("json", encodeObject, w)
		}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := object.CacheEncode("json", encodeObject, io.Discard); err != nil || encoded != 1 {
		t.Errorf("encoded %d times, %v", encoded, err)
	}
}

// nextObject returns the object that the watch sends next.
func nextObject(t *testing.T, w watch.Interface, typ watch.EventType) apiruntime.Object {
	t.Helper()
	e := <-w.ResultChan()
	if e.Type != typ {
		t.Fatalf("the event is %s, not %s", describeEvent(e), typ)
	}
	return e.Object
}

func TestWatch_WatchesSendOneObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t, Options{})
		start := list(t, w.pods, everything()).ResourceVersion
		selected := everything()
		selected.ResourceVersion = start
		selected.Predicate = apistorage.SelectionPredicate{
			Label: labels.SelectorFromSet(labels.Set{"on": "yes"}), Field: fields.Everything(),
			GetAttrs: apistorage.DefaultNamespaceScopedAttr,
		}
		all, others := watchFrom(t, w.pods, start), watchFrom(t, w.pods, start)
		on, alsoOn := startWatch(t, w.pods, selected), startWatch(t, w.pods, selected)
		create(t, w.pods, managed("node-1", "", ""))
		update(t, w.pods, "node-1", func(p *example.Pod) { p.Labels = map[string]string{"on": "yes"} })
		update(t, w.pods, "node-1", func(p *example.Pod) { p.Labels = nil })
		remove(t, w.pods, "node-1")

		same := func(what string, objects ...apiruntime.Object) {
			t.Helper()
			if len(slices.Compact(objects)) != 1 {
				t.Errorf("%s is sent as more than one object", what)
			}
		}
		same("the new object", nextObject(t, all, watch.Added), nextObject(t, others, watch.Added))
		labelled := nextObject(t, all, watch.Modified)
		same("the change that selects it", labelled, nextObject(t, others, watch.Modified), nextObject(t, on, watch.Added), nextObject(t, alsoOn, watch.Added))
		unlabelled := nextObject(t, all, watch.Modified)
		same("the change that selects it no more", unlabelled, nextObject(t, others, watch.Modified))
		left := nextObject(t, on, watch.Deleted)
		same("what is selected no more", left, nextObject(t, alsoOn, watch.Deleted))
		if left == unlabelled || left == labelled {
			t.Error("a watch that an object left sends the object of the others")
		}
		if p := left.(apiruntime.CacheableObject).GetObject().(*example.Pod); p.Labels["on"] != "yes" || fmt.Sprint(revision(t, p)) != resourceVersion(unlabelled) {
			t.Errorf("it left as %v at %s, others have it at %s", p.Labels, p.ResourceVersion, resourceVersion(unlabelled))
		}
		same("the deletion", nextObject(t, all, watch.Deleted), nextObject(t, others, watch.Deleted))

		create(t, w.pods, managed("node-2", "", ""))
		same("what is there", nextObject(t, all, watch.Added), nextObject(t, startWatch(t, w.pods, everything()), watch.Added), nextObject(t, startWatch(t, w.pods, everything()), watch.Added))
	})
}

func resourceVersion(obj apiruntime.Object) string {
	return obj.(metav1.ObjectMetaAccessor).GetObjectMeta().GetResourceVersion()
}

// The view and the history last, the encodings of what is in them must not.
func TestWatch_EncodingsEndWithTheirEvents(t *testing.T) {
	t.Parallel()
	w := newFixture(t, Options{})
	events := watchFrom(t, w.pods, list(t, w.pods, everything()).ResourceVersion)
	create(t, w.pods, managed("node-1", "", ""))
	e := <-events.ResultChan()
	if err := codec.Encode(e.Object, io.Discard); err != nil {
		t.Fatal(err)
	}
	entry := w.pods.view.get(w.pods.testKey("node-1"))
	runtime.GC()
	if entry.caching.event.Value() != e.Object {
		t.Error("an event in use has lost its encodings")
	}
	e = watch.Event{}
	for i := 0; entry.caching.event.Value() != nil; i++ {
		if runtime.GC(); i == 10 {
			t.Fatal("the encodings of an event that was sent are kept")
		}
	}
}
