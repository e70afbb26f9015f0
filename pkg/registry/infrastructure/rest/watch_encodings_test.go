// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emicklei/go-restful/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/projection"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
	"metal-stack.io/infrastructure-apiserver/pkg/storage"
)

// freshREST serves watches whose events are encoded anew for each of them. So are lists
// and gets, since no request asks it for anything else.
type freshREST struct{ *registry.REST }

func (r freshREST) Watch(ctx context.Context, options *metainternalversion.ListOptions) (watch.Interface, error) {
	inner, err := r.REST.Watch(ctx, options)
	if err != nil {
		return nil, err
	}
	return watch.Filter(inner, func(e watch.Event) (watch.Event, bool) {
		if cacheable, ok := e.Object.(apiruntime.CacheableObject); ok {
			e.Object = cacheable.GetObject()
		}
		return e, true
	}), nil
}

// noAllocator allocates nothing: no test here asks for it.
type noAllocator struct{ Allocator }

// encodingEnvironment serves the same machines twice: as the product does, and freshly
// encoded.
type encodingEnvironment struct {
	resources     *Resources
	machines      *registry.REST
	clock         *clocktesting.FakeClock
	served, fresh *httptest.Server
}

func newEncodingEnvironment(t *testing.T) *encodingEnvironment {
	t.Helper()
	fake := clocktesting.NewFakeClock(time.Now())
	backend, err := storage.NewBackend(t.Context(), storage.Options{Ledger: memory.New(), Clock: fake})
	require.NoError(t, err)
	access := &grants{held: map[string]bool{"alice team-a": true, "admin *": true}}
	resources, err := New(NewRESTOptionsGetter(backend, projection.Source{Facts: facts{}, Bindings: allBound{}, Clock: clock.RealClock{}}), allBound{}, resolverOf(access, backend), anyCatalogue{}, nil)
	require.NoError(t, err)
	require.NoError(t, backend.Start(t.Context()))
	e := &encodingEnvironment{resources: resources, machines: resources.all[machine.Resource].main, clock: fake}
	e.served = e.serve(t, e.machines, func(handler http.Handler) http.Handler { return registry.WithKeptEncodings(handler, Serializer()) })
	e.fresh = e.serve(t, freshREST{e.machines}, func(handler http.Handler) http.Handler { return handler })
	return e
}

// serve serves machines over HTTP to the user that a header names.
func (e *encodingEnvironment) serve(t *testing.T, machines rest.Storage, wrap func(http.Handler) http.Handler) *httptest.Server {
	t.Helper()
	container := restful.NewContainer()
	group := e.resources.APIGroup(Backends{Allocator: noAllocator{}})
	for _, gv := range group.PrioritizedVersions {
		version := endpoints.APIGroupVersion{
			Root: "/apis", GroupVersion: gv, Storage: map[string]rest.Storage{machine.Resource: machines},
			Serializer: group.NegotiatedSerializer, ParameterCodec: group.ParameterCodec,
			Typer: group.Scheme, Creater: group.Scheme, Convertor: group.Scheme, ConvertabilityChecker: group.Scheme,
			UnsafeConvertor: apiruntime.UnsafeObjectConvertor(group.Scheme), Defaulter: group.Scheme,
			Namer: meta.NewAccessor(), EquivalentResourceRegistry: apiruntime.NewEquivalentResourceRegistry(),
			TypeConverter: managedfields.NewDeducedTypeConverter(), MinRequestTimeout: time.Hour,
		}
		_, _, err := version.InstallREST(container)
		require.NoError(t, err)
	}
	inside := wrap(container)
	authenticated := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		u := &user.DefaultInfo{Name: req.Header.Get("User")}
		inside.ServeHTTP(w, req.WithContext(request.WithUser(req.Context(), u)))
	})
	resolver := &request.RequestInfoFactory{APIPrefixes: sets.NewString("apis")}
	server := httptest.NewServer(filters.WithRequestReceivedTimestamp(filters.WithRequestInfo(authenticated, resolver)))
	t.Cleanup(server.Close)
	return server
}

// form is how a client has its answer encoded.
type form struct{ version, accept, query string }

func (f form) isTable() bool { return strings.Contains(f.accept, "as=Table") }

// forms are all that a watch can be encoded as.
func (e *encodingEnvironment) forms(t *testing.T) []form {
	t.Helper()
	var all []form
	group := e.resources.APIGroup(Backends{Allocator: noAllocator{}})
	for _, info := range group.NegotiatedSerializer.SupportedMediaTypes() {
		if info.StreamSerializer != nil {
			require.Equal(t, apiruntime.ContentTypeJSON, info.MediaType, "this test reads streams of JSON only")
		}
	}
	for _, gv := range group.PrioritizedVersions {
		all = append(all, form{gv.Version, "application/json", ""}, form{gv.Version, "application/json", "pretty=true"})
		for _, v := range []string{"v1", "v1beta1"} {
			all = append(all, form{gv.Version, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=" + v, ""})
			all = append(all, form{gv.Version, "application/json;as=Table;g=meta.k8s.io;v=" + v, ""})
		}
		for _, include := range []metav1.IncludeObjectPolicy{metav1.IncludeNone, metav1.IncludeObject} {
			all = append(all, form{gv.Version, "application/json;as=Table;g=meta.k8s.io;v=v1", "includeObject=" + string(include)})
		}
	}
	return all
}

// watchScope is what a watch is about.
type watchScope struct{ user, namespace, query string }

var watchScopes = []watchScope{
	{user: "admin"},
	{user: "alice"},
	{user: "alice", namespace: "team-a"},
	{user: "admin", query: "labelSelector=on%3Dyes"},
	{user: "admin", query: "fieldSelector=metadata.name%3Dlast"},
}

// stream is the events that one watch was sent.
type stream struct {
	form  form
	scope watchScope

	mu     sync.Mutex
	events []sentEvent
	// headings is how many events brought the headings of a table.
	headings int
	age      int // its column
	ages     []string
}

type sentEvent struct {
	typ      string
	revision uint64
	encoded  string
}

var (
	revisionPattern = regexp.MustCompile(`"resourceVersion":\s*"([0-9]+)"`)
	typePattern     = regexp.MustCompile(`^{\s*"type":\s*"([A-Z]+)"`)
)

// follow begins a watch, and reads it until the server stops.
func follow(t *testing.T, server *httptest.Server, f form, s watchScope, start string, wg *sync.WaitGroup) *stream {
	t.Helper()
	path := "/apis/" + infrastructure.GroupName + "/" + f.version
	if s.namespace != "" {
		path += "/namespaces/" + s.namespace
	}
	parts := slices.DeleteFunc([]string{"watch=true&allowWatchBookmarks=true", f.query, s.query, start}, func(part string) bool { return part == "" })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path+"/"+machine.Resource+"?"+strings.Join(parts, "&"), nil)
	require.NoError(t, err)
	req.Header.Set("User", s.user)
	req.Header.Set("Accept", f.accept)
	resp, err := server.Client().Do(req)
	require.NoError(t, err)
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("%v %v: %s: %s", f, s, resp.Status, body)
	}
	out := &stream{form: f, scope: s}
	wg.Go(func() {
		defer resp.Body.Close()
		frames := json.NewDecoder(resp.Body)
		for {
			var frame json.RawMessage
			if frames.Decode(&frame) != nil {
				return
			}
			out.add(t, frame)
		}
	})
	return out
}

func (s *stream) add(t *testing.T, frame []byte) {
	typ, revision := typePattern.FindSubmatch(frame), revisionPattern.FindSubmatch(frame)
	if typ == nil || revision == nil {
		t.Errorf("no event: %s", frame)
		return
	}
	at, _ := strconv.ParseUint(string(revision[1]), 10, 64)
	if s.form.isTable() {
		frame = s.withoutHeadings(t, frame)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, sentEvent{string(typ[1]), at, string(frame)})
}

// withoutHeadings takes from a table what depends on when and to whom it is sent: ages,
// and the headings, which the first one has.
func (s *stream) withoutHeadings(t *testing.T, frame []byte) []byte {
	var event struct {
		Type   string         `json:"type"`
		Object map[string]any `json:"object"`
	}
	if err := json.Unmarshal(frame, &event); err != nil {
		t.Error(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if definitions, ok := event.Object["columnDefinitions"].([]any); ok {
		s.headings++
		s.age = slices.IndexFunc(definitions, func(d any) bool { return d.(map[string]any)["name"] == "Age" })
	}
	delete(event.Object, "columnDefinitions")
	for _, row := range event.Object["rows"].([]any) {
		cells := row.(map[string]any)["cells"].([]any)
		s.ages = append(s.ages, fmt.Sprint(cells[s.age]))
		cells[s.age] = "age"
	}
	out, err := json.Marshal(event)
	if err != nil {
		t.Error(err)
	}
	return out
}

// changes returns the events but for bookmarks, which tell when they are sent.
func (s *stream) changes() []sentEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.events), func(e sentEvent) bool { return e.typ == string(watch.Bookmark) })
}

func (s *stream) hasSeen(revision uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.events) > 0 && s.events[len(s.events)-1].revision >= revision
}

// What watches are sent is, in every form and scope, what they would be sent if each
// event was encoded for each of them.
func TestWatch_SharedEncodingsEqualFreshOnes(t *testing.T) {
	t.Parallel()
	e := newEncodingEnvironment(t)
	for i := range 3 {
		e.create(t, "team-a", fmt.Sprintf("m%d", i))
		e.create(t, "team-b", fmt.Sprintf("m%d", i))
	}
	// Of all that may list across namespaces, this server now knows what they see.
	for _, who := range []string{"admin", "alice"} {
		_, err := e.machines.List(as(who, ""), &metainternalversion.ListOptions{})
		require.NoError(t, err)
	}
	list, err := e.machines.List(as("admin", ""), &metainternalversion.ListOptions{})
	require.NoError(t, err)
	resume := "resourceVersion=" + list.(metav1.ListInterface).GetResourceVersion()
	const initial = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan"

	var reading, writing sync.WaitGroup
	// begin begins, for each form and scope, watches as the product serves them, and
	// one that is freshly encoded, which comes last.
	begin := func(start string, served int) (all [][]*stream) {
		for _, f := range e.forms(t) {
			for _, s := range watchScopes {
				var group []*stream
				for range served {
					group = append(group, follow(t, e.served, f, s, start, &reading))
				}
				all = append(all, append(group, follow(t, e.fresh, f, s, start, &reading)))
			}
		}
		return all
	}
	resumed := begin(resume, 2)
	for n, namespace := range []string{"team-a", "team-b"} {
		writing.Go(func() { e.change(t, namespace, 40, rand.New(rand.NewPCG(1, uint64(n)))) })
	}
	listed := begin(initial, 1)
	writing.Wait()
	last := e.create(t, "team-a", "last")
	for _, group := range append(resumed, listed...) {
		for _, s := range group {
			require.Eventually(t, func() bool { return s.hasSeen(last) }, time.Minute, time.Millisecond, "%v %v", s.form, s.scope)
		}
	}
	e.served.CloseClientConnections()
	e.fresh.CloseClientConnections()
	reading.Wait()

	for _, group := range resumed {
		fresh := group[len(group)-1]
		requireAscending(t, fresh)
		for _, s := range group[:len(group)-1] {
			requireSameEvents(t, s, fresh.changes(), s.changes())
			assert.Equal(t, fresh.headings, s.headings, "%v %v", s.form, s.scope)
		}
	}
	// Watches that begin with what is there begin at different times.
	for _, group := range listed {
		known := map[string]string{}
		for _, s := range slices.Backward(group) {
			for _, event := range s.changes() {
				key := fmt.Sprintf("%s %d", event.typ, event.revision)
				if fresh, ok := known[key]; ok {
					requireSameEvents(t, s, []sentEvent{{event.typ, event.revision, fresh}}, []sentEvent{event})
				}
				known[key] = event.encoded
			}
			assert.LessOrEqual(t, s.headings, 1, "%v %v", s.form, s.scope)
		}
	}
	t.Logf("%d watches; those of all were sent %d changes", 3*len(resumed)+2*len(listed), len(resumed[0][0].changes()))
}

// requireAscending fails if an event has an older version of its object than it should.
func requireAscending(t *testing.T, s *stream) {
	t.Helper()
	last := uint64(0)
	for _, event := range s.changes() {
		require.Greater(t, event.revision, last, "%v %v", s.form, s.scope)
		last = event.revision
	}
}

func requireSameEvents(t *testing.T, s *stream, want, got []sentEvent) {
	t.Helper()
	for i := range min(len(want), len(got)) {
		require.Equal(t, want[i].encoded, got[i].encoded, "%v %v", s.form, s.scope)
	}
	require.Len(t, got, len(want), "%v %v", s.form, s.scope)
}

func (e *encodingEnvironment) create(t *testing.T, namespace, name string) (revision uint64) {
	t.Helper()
	m := newMachine(name)
	m.Namespace, m.Labels = namespace, map[string]string{"on": "yes"}
	m.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "test", Operation: metav1.ManagedFieldsOperationUpdate, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:image":{}}}`)}}
	created, err := e.machines.Create(as("admin", namespace), m, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	require.NoError(t, err)
	revision, err = strconv.ParseUint(created.(metav1.Object).GetResourceVersion(), 10, 64)
	require.NoError(t, err)
	return revision
}

// change creates, changes and deletes the machines of a namespace, so many times.
func (e *encodingEnvironment) change(t *testing.T, namespace string, times int, random *rand.Rand) {
	for i := range times {
		switch i % 5 {
		case 0:
			runtime.GC() // It ends encodings that are not kept.
		case 1:
			e.clock.Step(time.Minute) // Those that are kept are kept for minutes.
		}
		in := as("admin", namespace)
		name := fmt.Sprintf("m%d", random.IntN(5))
		info := rest.DefaultUpdatedObjectInfo(nil, func(_ context.Context, _, old apiruntime.Object) (apiruntime.Object, error) {
			m := old.DeepCopyObject().(*infrastructure.MetalStackMachine)
			m.Annotations = map[string]string{"n": strconv.Itoa(i), "text": "<&>\u2028 " + strings.Repeat("é", random.IntN(100))}
			m.Labels = []map[string]string{nil, {"on": "yes"}, {"on": "no"}}[random.IntN(3)]
			return m, nil
		})
		// Those that are not there, or there already, are of no interest.
		switch random.IntN(8) {
		case 0:
			m := newMachine(name)
			m.Namespace = namespace
			_, _ = e.machines.Create(in, m, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
		case 1:
			_, _, _ = e.machines.Delete(in, name, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{})
			_, _ = update(t, e.machines, name, func(m *infrastructure.MetalStackMachine) { m.Finalizers = nil })
		default:
			_, _, _ = e.machines.Update(in, name, info, rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
		}
	}
}

// A Table shows ages, so a watch must not be sent one that was encoded earlier.
func TestWatch_TableShowsTheAgeOfNow(t *testing.T) {
	t.Parallel()
	e := newEncodingEnvironment(t)
	list, err := e.machines.List(as("admin", ""), &metainternalversion.ListOptions{})
	require.NoError(t, err)
	last := e.create(t, "team-a", "m0")
	revision := list.(metav1.ListInterface).GetResourceVersion()
	start := "resourceVersion=" + revision
	// A slow watch keeps the event, and with it all encodings.
	slow, err := e.machines.Watch(as("admin", ""), &metainternalversion.ListOptions{ResourceVersion: revision})
	require.NoError(t, err)
	defer slow.Stop()
	event := <-slow.ResultChan()
	defer runtime.KeepAlive(event)
	table := form{"v1alpha4", "application/json;as=Table;g=meta.k8s.io;v=v1", ""}
	age := func() string {
		var reading sync.WaitGroup
		s := follow(t, e.served, table, watchScopes[0], start, &reading)
		require.Eventually(t, func() bool { return s.hasSeen(last) }, time.Minute, time.Millisecond)
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.ages[0]
	}
	first := age()
	require.Eventually(t, func() bool { return age() != first }, time.Minute, 50*time.Millisecond, "the age stays %s", first)
}
