// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry/infrastructure/machine"
)

// listForms are all that a list can be encoded as.
func (e *encodingEnvironment) listForms() []form {
	var all []form
	group := e.resources.APIGroup(Backends{Allocator: noAllocator{}})
	for _, gv := range group.PrioritizedVersions {
		for _, info := range group.NegotiatedSerializer.SupportedMediaTypes() {
			all = append(all, form{gv.Version, info.MediaType, ""}, form{gv.Version, info.MediaType, "pretty=true"})
			for _, v := range []string{"v1", "v1beta1"} {
				as := info.MediaType + ";g=meta.k8s.io;v=" + v + ";as="
				all = append(all, form{gv.Version, as + "PartialObjectMetadataList", ""}, form{gv.Version, as + "PartialObjectMetadataList", "pretty=1"})
				for _, include := range []metav1.IncludeObjectPolicy{"", metav1.IncludeMetadata, metav1.IncludeNone, metav1.IncludeObject} {
					all = append(all, form{gv.Version, as + "Table", "includeObject=" + string(include)})
				}
				all = append(all, form{gv.Version, as + "Table", ""}, form{gv.Version, as + "Table", "pretty=true"})
			}
		}
		all = append(all, form{gv.Version, "", ""}, form{gv.Version, "*/*", ""},
			form{gv.Version, "application/vnd.kubernetes.protobuf,application/json", ""},
			form{gv.Version, "application/json;as=Unknown;g=meta.k8s.io;v=v1,application/json", ""},
			form{gv.Version, "application/json;as=Table;g=meta.k8s.io;v=v1,application/json;as=Table;g=meta.k8s.io;v=v1beta1,application/json", ""},
		)
	}
	return all
}

var listQueries = []watchScope{
	{user: "admin"},
	{user: "alice"},
	{user: "alice", namespace: "team-a"},
	{user: "admin", namespace: "none"},
	{user: "admin", query: "labelSelector=on%3Dyes"},
	{user: "admin", query: "fieldSelector=metadata.name%3Dm1"},
	{user: "admin", query: "limit=2"},
	{user: "alice", query: "limit=1"},
}

// read returns the type and the body of a list, or of one object.
func read(server *httptest.Server, f form, s watchScope, name string, query ...string) (mediaType, body string, err error) {
	path := "/apis/" + infrastructure.GroupName + "/" + f.version
	if s.namespace != "" {
		path += "/namespaces/" + s.namespace
	}
	path += "/" + machine.Resource
	if name != "" {
		path += "/" + name
	}
	query = slices.DeleteFunc(append(query, f.query, s.query), func(part string) bool { return part == "" })
	req, err := http.NewRequest(http.MethodGet, server.URL+path+"?"+strings.Join(query, "&"), nil)
	if err != nil {
		return "", "", err
	}
	req.Header.Set("User", s.user)
	if f.accept != "" {
		req.Header.Set("Accept", f.accept)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return "", "", fmt.Errorf("%s: %w: %s", resp.Status, err, content)
	}
	return resp.Header.Get("Content-Type"), string(content), nil
}

// requireSameRead reads the same from both servers. Tables show ages, which a second changes.
func (e *encodingEnvironment) requireSameRead(t *testing.T, f form, s watchScope, name string, query ...string) (body string) {
	t.Helper()
	for range 10 {
		wantType, want, err := read(e.fresh, f, s, name, query...)
		require.NoError(t, err, "%v %v", f, s)
		gotType, got, err := read(e.served, f, s, name, query...)
		require.NoError(t, err, "%v %v", f, s)
		require.Equal(t, wantType, gotType, "%v %v", f, s)
		if got == want {
			return got
		}
		if !f.isTable() {
			require.Equal(t, want, got, "%v %v", f, s)
		}
		body = got
	}
	_, want, _ := read(e.fresh, f, s, name, query...)
	require.Equal(t, want, body, "%v %v", f, s)
	return body
}

var continuePattern = regexp.MustCompile(`"continue":\s*"([^"]+)"`)

// What lists answer is, in every form and scope, what they would answer if each was
// encoded anew, also while objects are written and encodings are dropped.
func TestList_KeptEncodingsEqualFreshOnes(t *testing.T) {
	t.Parallel()
	e := newEncodingEnvironment(t)
	for i := range 3 {
		e.create(t, "team-a", fmt.Sprintf("m%d", i))
		e.create(t, "team-b", fmt.Sprintf("m%d", i))
	}
	type read struct {
		form  form
		scope watchScope
	}
	var reads []read
	for _, f := range e.listForms() {
		for _, s := range listQueries {
			reads = append(reads, read{f, s})
		}
	}
	rand.New(rand.NewPCG(3, 4)).Shuffle(len(reads), func(i, j int) { reads[i], reads[j] = reads[j], reads[i] })

	var reading sync.WaitGroup
	const readers = 4
	for n := range readers {
		reading.Go(func() {
			random := rand.New(rand.NewPCG(5, uint64(n)))
			for i := n; i < len(reads); i += readers {
				e.change(t, []string{"team-a", "team-b"}[random.IntN(2)], 1+random.IntN(3), random)
				list, err := e.machines.List(as("admin", ""), &metainternalversion.ListOptions{ResourceVersion: "0"})
				if !assert.NoError(t, err) {
					return
				}
				exact := "resourceVersion=" + list.(metav1.ListInterface).GetResourceVersion() + "&resourceVersionMatch=Exact"
				body := e.requireSameRead(t, reads[i].form, reads[i].scope, "", exact)
				if next := continuePattern.FindStringSubmatch(body); next != nil {
					e.requireSameRead(t, reads[i].form, reads[i].scope, "", "continue="+url.QueryEscape(next[1]))
				}
			}
		})
	}
	reading.Wait()

	e.create(t, "team-a", "last")
	for _, f := range e.listForms() {
		e.requireSameRead(t, f, watchScope{user: "admin"}, "", "resourceVersion=0")
		f.accept = strings.ReplaceAll(f.accept, "PartialObjectMetadataList", "PartialObjectMetadata")
		e.requireSameRead(t, f, watchScope{user: "alice", namespace: "team-a"}, "last")
	}
	t.Logf("%d lists", len(reads))
}

// What a get answers is, in every form, what it would answer if it was encoded anew, also
// after each write, and while others read the same object.
func TestGet_KeptEncodingsEqualFreshOnes(t *testing.T) {
	t.Parallel()
	e := newEncodingEnvironment(t)
	e.create(t, "team-a", "m1")
	revisions := map[string]bool{}
	alice := watchScope{user: "alice", namespace: "team-a"}
	for i := range 3 {
		for _, f := range e.listForms() {
			f.accept = strings.ReplaceAll(f.accept, "PartialObjectMetadataList", "PartialObjectMetadata")
			for _, query := range []string{"resourceVersion=0", ""} {
				body := e.requireSameRead(t, f, alice, "m1", query)
				if revision := revisionPattern.FindStringSubmatch(body); revision != nil {
					revisions[revision[1]] = true
				}
			}
		}
		_, err := update(t, e.machines, "m1", func(m *infrastructure.MetalStackMachine) { m.Annotations = map[string]string{"n": strconv.Itoa(i)} })
		require.NoError(t, err)
	}
	require.Len(t, revisions, 3)
	_, _, err := read(e.served, form{version: "v1alpha4"}, alice, "m2")
	require.ErrorContains(t, err, `metalstackmachines.infrastructure.cluster.x-k8s.io \"m2\" not found`)
}

// A Table shows ages, so a list must not answer with one that was encoded earlier.
func TestList_TableShowsTheAgeOfNow(t *testing.T) {
	t.Parallel()
	e := newEncodingEnvironment(t)
	e.create(t, "team-a", "m0")
	table := form{"v1alpha4", "application/json;as=Table;g=meta.k8s.io;v=v1", ""}
	list := func() string {
		_, body, err := read(e.served, table, watchScopes[0], "", "resourceVersion=0")
		require.NoError(t, err)
		return body
	}
	first := list()
	require.Eventually(t, func() bool { return list() != first }, time.Minute, 50*time.Millisecond, "the age stays as in %s", first)
}
