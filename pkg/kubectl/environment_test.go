// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/render"
)

var update = flag.Bool("update", false, "write testdata/*.golden")

// now is the time of every test.
var now = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

const (
	group   = "/apis/infrastructure.cluster.x-k8s.io/v1alpha4"
	team    = group + "/namespaces/team-a/"
	timeout = 2 * time.Minute
)

// request is what the server was asked.
type request struct {
	Method, Path, Query string
	Body                map[string]any
}

// fakeServer answers as the API server does, as far as the plugin needs it.
type fakeServer struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	machines []*v1alpha4.MetalStackMachine
	walls    []*v1alpha4.MetalStackFirewall
	answers  map[string]func() (int, any)
	requests []request
	// opened gets a channel of events for each watch that begins.
	opened chan chan watchEvent
}

type watchEvent struct {
	Type   watch.EventType `json:"type"`
	Object runtime.Object  `json:"object"`
}

func newFakeServer(t *testing.T) *fakeServer {
	t.Helper()
	s := &fakeServer{t: t, answers: map[string]func() (int, any){}, opened: make(chan chan watchEvent, 16)}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

// on sets the answer to a request, such as "GET metalstackmachines/worker-1/log" in team-a, or
// "GET /api/v1/…".
func (s *fakeServer) on(request string, status int, answer any) {
	s.onEach(request, func() (int, any) { return status, answer })
}

func (s *fakeServer) onEach(request string, answer func() (int, any)) {
	method, path, _ := strings.Cut(request, " ")
	if !strings.HasPrefix(path, "/") {
		path = team + path
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[method+" "+path] = answer
}

func (s *fakeServer) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	seen := request{Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery}
	_ = json.Unmarshal(body, &seen.Body)
	isWatch := r.URL.Query().Get("watch") != ""
	s.mu.Lock()
	if !isWatch {
		s.requests = append(s.requests, seen)
	}
	answer := s.answers[r.Method+" "+r.URL.Path]
	s.mu.Unlock()
	switch {
	case isWatch:
		s.serveWatch(w, r)
	case answer != nil:
		write(w, answer)
	case r.Method == http.MethodGet:
		write(w, func() (int, any) { return s.get(r) })
	default:
		http.NotFound(w, r)
	}
}

func write(w http.ResponseWriter, answer func() (int, any)) {
	status, body := answer()
	if failure, isStatus := body.(metav1.Status); isStatus {
		failure.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		body = failure
	}
	if answer, ok := body.(warnedAnswer); ok {
		for _, text := range answer.warnings {
			w.Header().Add("Warning", fmt.Sprintf("299 - %q", text))
		}
		body = answer.body
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// warnedAnswer is an answer with warnings.
type warnedAnswer struct {
	body     any
	warnings []string
}

func notFound(resource, name string) (int, any) {
	err := apierrors.NewNotFound(v1alpha4.SchemeGroupVersion.WithResource(resource).GroupResource(), name)
	return http.StatusNotFound, err.Status()
}

// get answers gets and lists of objects.
func (s *fakeServer) get(r *http.Request) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, team), group+"/")
	resource, name, single := strings.Cut(path, "/")
	selected := strings.TrimPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	meta := metav1.ListMeta{ResourceVersion: "7"}
	switch resource {
	case fleet.Machine.Resource:
		list := v1alpha4.MetalStackMachineList{ListMeta: meta}
		for _, m := range s.machines {
			if single && m.Name == name {
				return http.StatusOK, m
			}
			if selected == "" || m.Name == selected {
				list.Items = append(list.Items, *m)
			}
		}
		if !single {
			return http.StatusOK, list
		}
	case fleet.Firewall.Resource:
		list := v1alpha4.MetalStackFirewallList{ListMeta: meta}
		for _, f := range s.walls {
			if single && f.Name == name {
				return http.StatusOK, f
			}
			if selected == "" || f.Name == selected {
				list.Items = append(list.Items, *f)
			}
		}
		if !single {
			return http.StatusOK, list
		}
	}
	return notFound(resource, name)
}

func (s *fakeServer) serveWatch(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.(http.Flusher).Flush()
	events := make(chan watchEvent)
	s.opened <- events
	for {
		select {
		case <-r.Context().Done():
			return
		case e, open := <-events:
			if !open {
				return
			}
			e.Object = e.Object.DeepCopyObject()
			e.Object.GetObjectKind().SetGroupVersionKind(v1alpha4.SchemeGroupVersion.WithKind(fleet.Machine.Name))
			_ = json.NewEncoder(w).Encode(e)
			w.(http.Flusher).Flush()
		}
	}
}

// watchBegun returns the events of the next watch that begins.
func (s *fakeServer) watchBegun() chan<- watchEvent {
	s.t.Helper()
	select {
	case events := <-s.opened:
		return events
	case <-time.After(timeout):
		require.Fail(s.t, "no watch began")
		return nil
	}
}

// made returns the requests with a method other than GET.
func (s *fakeServer) made() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var made []request
	for _, r := range s.requests {
		if r.Method != http.MethodGet {
			made = append(made, r)
		}
	}
	return made
}

// gets counts the GET requests of a path.
func (s *fakeServer) gets(path string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if r.Method == http.MethodGet && r.Path == team+path {
			n++
		}
	}
	return n
}

// outcome is what became of a command.
type outcome struct {
	stdout, stderr string
	code           int
}

// terminal is a user at a terminal, who types input.
type terminal struct {
	interactive bool
	input       string
	style       render.Style
	clock       *clocktesting.FakeClock
}

func (s *fakeServer) run(args ...string) outcome { return s.runAt(terminal{}, args...) }

func (s *fakeServer) runAt(at terminal, args ...string) outcome {
	s.t.Helper()
	if at.clock == nil {
		at.clock = clocktesting.NewFakeClock(now)
	}
	var stdout, stderr bytes.Buffer
	env := Environment{
		IOStreams:   genericiooptions.IOStreams{In: strings.NewReader(at.input), Out: &stdout, ErrOut: &stderr},
		Interactive: at.interactive, Style: at.style, Clock: at.clock,
	}
	code := Run(s.t.Context(), append(s.global(), args...), env)
	return outcome{stdout.String(), stderr.String(), code}
}

// global are the flags that lead to the server.
func (s *fakeServer) global() []string {
	file := filepath.Join(s.t.TempDir(), "kubeconfig")
	config := `{"apiVersion":"v1","kind":"Config","current-context":"here","clusters":[{"name":"c","cluster":{"server":"` + s.URL +
		`"}}],"contexts":[{"name":"here","context":{"cluster":"c","user":"u","namespace":"team-a"}}],"users":[{"name":"u","user":{}}]}`
	require.NoError(s.t, os.WriteFile(file, []byte(config), 0o600))
	return []string{"--kubeconfig=" + file}
}

// golden compares an output with a file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file+".golden")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), got, "%s; go test ./pkg/kubectl -update writes it", path)
}

func at(before time.Duration) *metav1.Time { return &metav1.Time{Time: now.Add(-before)} }

func condition(typ string, status metav1.ConditionStatus, reason, message string, age time.Duration) metav1.Condition {
	return metav1.Condition{Type: typ, Status: status, Reason: reason, Message: message, LastTransitionTime: *at(age)}
}

// worker returns a machine that runs as a node of the cluster shop.
func worker(name string) *v1alpha4.MetalStackMachine {
	return &v1alpha4.MetalStackMachine{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "team-a", UID: types.UID("uid-of-" + name), CreationTimestamp: *at(72 * time.Hour),
			Labels: map[string]string{infrastructure.ClusterNameLabel: "shop"},
			OwnerReferences: []metav1.OwnerReference{
				{APIVersion: "cluster.x-k8s.io/v1beta2", Kind: "Machine", Name: "machine-of-" + name, UID: "m", Controller: new(true)},
			},
		},
		Spec: v1alpha4.MetalStackMachineSpec{
			Image: "ubuntu-24.04", MachineType: "c1-large-x86", Partition: "fra-01",
			ProviderID: "metal://fra-01/2294c949-88f6-5390-8154-fa53d93a3313",
		},
		Status: v1alpha4.MetalStackMachineStatus{
			Ready:      true,
			Addresses:  []v1alpha4.MachineAddress{{Type: v1alpha4.MachineInternalIP, Address: "10.0.1.7"}},
			Conditions: []metav1.Condition{condition("Ready", "True", "PhonedHome", "The machine runs", 70*time.Hour)},
			Metal: &v1alpha4.Metal{
				MachineID: "2294c949-88f6-5390-8154-fa53d93a3313", AllocationUUID: "b0f0ad6c-6a39-4d46-b1a9-2f0f6bbd8b6c", Managed: true,
				Project: "46f5b4ab-2d1a-4b9e-8b3f-6e2a0a6f2a10", Partition: "fra-01", Rack: "fra-01-rack-1", Size: "c1-large-x86",
				Image: "ubuntu-24.04.20260101", Hostname: name, AllocationTime: at(71 * time.Hour), Phase: "Phoned Home", Liveliness: "Alive",
				LastEvent: &v1alpha4.MetalEvent{Event: "Phoned Home", Message: "system up", Time: at(time.Minute)},
				Networks:  []v1alpha4.MetalNetwork{{ID: "net-a", IPs: []string{"10.0.1.7"}, Prefixes: []string{"10.0.1.0/24"}, Private: true, ASN: 4200000123}},
			},
			Allocation: &v1alpha4.MachineAllocation{AllocationState: v1alpha4.AllocationState{Phase: v1alpha4.AllocationAllocated}},
		},
	}
}

// firewall returns a firewall of the cluster shop.
func firewall(name string) *v1alpha4.MetalStackFirewall {
	return &v1alpha4.MetalStackFirewall{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "team-a", UID: types.UID("uid-of-" + name), CreationTimestamp: *at(73 * time.Hour),
			Labels: map[string]string{infrastructure.ClusterNameLabel: "shop"},
		},
		Spec: v1alpha4.MetalStackFirewallSpec{Image: "firewall-ubuntu-3.0", MachineType: "v1-small-x86", Partition: "fra-01"},
		Status: v1alpha4.MetalStackFirewallStatus{
			Ready:      true,
			Addresses:  []v1alpha4.MachineAddress{{Type: v1alpha4.MachineInternalIP, Address: "10.0.1.1"}, {Type: v1alpha4.MachineExternalIP, Address: "203.0.113.4"}},
			Conditions: []metav1.Condition{condition("Ready", "True", "PhonedHome", "", 72*time.Hour)},
			Metal: &v1alpha4.Metal{
				MachineID: "00000000-0000-0000-0000-000000000003", Managed: true, Partition: "fra-01", Rack: "fra-01-rack-2", Size: "v1-small-x86",
				Image: "firewall-ubuntu-3.0.20260101", Hostname: name, Phase: "Phoned Home", Liveliness: "Alive",
			},
		},
	}
}

// discovered returns a machine without a record.
func discovered() *v1alpha4.MetalStackMachine {
	m := worker("00000000-0000-0000-0000-000000000009")
	m.Labels, m.OwnerReferences, m.Status.Allocation = nil, nil, nil
	m.Spec.Image, m.Spec.ProviderID = "debian-13.0.20260301", "metal://fra-01/"+m.Name
	m.Status.Metal.MachineID, m.Status.Metal.Managed, m.Status.Metal.Hostname = m.Name, false, "by-hand"
	return m
}

func eventList(events ...corev1.Event) corev1.EventList { return corev1.EventList{Items: events} }
