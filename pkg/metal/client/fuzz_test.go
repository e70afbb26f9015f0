// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
)

// answering is a metal-api that says one thing.
type answering struct {
	status int
	body   []byte
}

func (a *answering) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: a.status, Header: http.Header{"Content-Type": {"application/json"}}, Request: r,
		Body: io.NopCloser(bytes.NewReader(a.body)),
	}, nil
}

func (a *answering) client(t testing.TB) *Client {
	c, err := New(Options{URL: "http://metal-api.invalid/metal", HMAC: "key", Transport: a})
	require.NoError(t, err)
	return c
}

// seed adds recorded answers of some endpoints, small ones, as lists if they
// are none.
func seed(f *testing.F, list bool, paths ...string) {
	n := 0
	for _, r := range recorded(f) {
		if n < 12 && r.Status/100 == 2 && len(r.Body) < 12_000 && slices.ContainsFunc(paths, func(p string) bool { return strings.HasPrefix(r.Path, p) }) {
			n++
			body := []byte(r.Body)
			if list && !bytes.HasPrefix(body, []byte("[")) {
				body = slices.Concat([]byte("["), body, []byte("]"))
			}
			f.Add(body)
		}
	}
	for _, s := range []string{"", "null", "[]", "[null]", "{}", "[{}]", `[{"id":"a"}]x`, `{"id":"a"}`} {
		f.Add([]byte(s))
	}
}

func FuzzFindMachines(f *testing.F) {
	seed(f, true, "/v1/machine", "/v1/firewall")
	api := &answering{status: http.StatusOK}
	c := api.client(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		api.body = body
		found, err := c.FindMachines(t.Context(), metal.MachineQuery{})
		if err != nil {
			assert.Nil(t, found)
			assert.Equal(t, metal.Unavailable, metal.KindOf(err), "a read that was not understood says nothing")
			return
		}
		for _, m := range found {
			require.NotEmpty(t, m.ID)
			assert.True(t, slices.IsSorted(m.Tags))
			if a := m.Allocation; a != nil {
				assert.True(t, slices.IsSortedFunc(a.Networks, func(a, b metal.MachineNetwork) int { return strings.Compare(a.NetworkID, b.NetworkID) }))
			} else {
				assert.False(t, m.InTransition())
				assert.Empty(t, m.AllocationUUID()+m.Project())
			}
			assert.False(t, m.Allocatable() && m.Allocation != nil)
		}
		// An answer in reverse says the same.
		var entries []json.RawMessage
		if json.Unmarshal(body, &entries) != nil {
			return
		}
		slices.Reverse(entries)
		api.body, err = json.Marshal(entries)
		require.NoError(t, err)
		reversed, err := c.FindMachines(t.Context(), metal.MachineQuery{})
		require.NoError(t, err)
		slices.Reverse(reversed)
		assert.Equal(t, found, reversed)
	})
}

// What allocates is told apart: done, refused, or not known. An answer that was
// not understood is never a refusal.
func FuzzAllocateMachine(f *testing.F) {
	seed(f, false, "/v1/machine/allocate")
	api := &answering{status: http.StatusOK}
	c := api.client(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		api.body = body
		m, err := c.AllocateMachine(t.Context(), metal.MachineRequest{UserData: []byte("the-join-token")})
		if err == nil {
			assert.NotEmpty(t, m.ID)
			assert.NotEmpty(t, m.AllocationUUID())
			return
		}
		assert.Equal(t, metal.Uncertain, metal.KindOf(err))
	})
}

func FuzzFindNetworks(f *testing.F) {
	seed(f, true, "/v1/network")
	api := &answering{status: http.StatusOK}
	c := api.client(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		api.body = body
		found, err := c.FindNetworks(t.Context(), metal.NetworkQuery{})
		if err != nil {
			assert.Nil(t, found)
			assert.Equal(t, metal.Unavailable, metal.KindOf(err))
			return
		}
		for _, n := range found {
			require.NotEmpty(t, n.ID)
			assert.True(t, n.Project == "" || n.UsableBy(n.Project), "its own project may use it")
		}
	})
}

func FuzzFindIPs(f *testing.F) {
	seed(f, true, "/v1/ip")
	api := &answering{status: http.StatusOK}
	c := api.client(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		api.body = body
		found, err := c.FindIPs(t.Context(), metal.IPQuery{})
		if err != nil {
			assert.Nil(t, found)
			assert.Equal(t, metal.Unavailable, metal.KindOf(err))
			return
		}
		for _, i := range found {
			require.NotEmpty(t, i.Address)
			assert.True(t, slices.IsSorted(i.Tags))
		}
	})
}

func FuzzInventory(f *testing.F) {
	seed(f, true, "/v1/size", "/v1/image", "/v1/partition", "/v1/project", "/v1/filesystemlayout")
	api := &answering{status: http.StatusOK}
	c := api.client(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		api.body = body
		sizes, err := c.ListSizes(t.Context())
		wholly(t, sizes, err, func(s *metal.Size) string { return s.ID })
		images, err := c.ListImages(t.Context())
		wholly(t, images, err, func(i *metal.Image) string { return i.ID })
		for _, i := range images {
			assert.True(t, slices.IsSorted(i.Features))
		}
		partitions, err := c.ListPartitions(t.Context())
		wholly(t, partitions, err, func(p *metal.Partition) string { return p.ID })
		projects, err := c.ListProjects(t.Context())
		wholly(t, projects, err, func(p *metal.Project) string { return p.ID })
		reservations, err := c.ListReservations(t.Context())
		wholly(t, reservations, err, func(r *metal.Reservation) string { return r.ID })
		for _, r := range reservations {
			assert.GreaterOrEqual(t, r.Amount, 0)
		}
		constraints, err := c.ListSizeImageConstraints(t.Context())
		wholly(t, constraints, err, func(s *metal.SizeImageConstraint) string { return s.Size })
		layouts, err := c.ListLayouts(t.Context())
		wholly(t, layouts, err, func(l *metal.FilesystemLayout) string { return l.ID })
	})
}

// wholly is how a list is read: each entry with its id, or none of them.
func wholly[T any](t *testing.T, found []*T, err error, id func(*T) string) {
	t.Helper()
	if err != nil {
		assert.Nil(t, found)
		assert.Equal(t, metal.Unavailable, metal.KindOf(err), "a read that was not understood says nothing")
		return
	}
	for _, entry := range found {
		assert.NotEmpty(t, id(entry))
	}
}

// Whatever is not understood of what a write answers, it may have been done.
func FuzzWrites(f *testing.F) {
	seed(f, false, "/v1/network/allocate", "/v1/network/free", "/v1/ip/allocate", "/v1/ip/free", "/v1/machine/")
	api := &answering{status: http.StatusOK}
	c := api.client(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		api.body = body
		network, err := c.AllocateNetwork(t.Context(), metal.NetworkRequest{})
		assert.Equal(t, network == nil, err != nil)
		done(t, err)
		_, err = c.FreeNetwork(t.Context(), "any")
		done(t, err)
		for _, address := range []string{"", "10.0.0.1"} {
			ip, err := c.AllocateIP(t.Context(), metal.IPRequest{Address: address})
			assert.Equal(t, ip == nil, err != nil)
			done(t, err)
		}
		_, err = c.FreeIP(t.Context(), "10.0.0.1")
		done(t, err)
		_, err = c.FreeMachine(t.Context(), metaltest.NoSuchID)
		done(t, err)
	})
}

// done is what becomes of a write that was answered with 200.
func done(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		assert.Equal(t, metal.Uncertain, metal.KindOf(err), "%v", err)
	}
}

func FuzzErrorMessage(f *testing.F) {
	f.Add(422, []byte(`"{\"message\":\"no machine available\",\"statuscode\":422}"`))
	f.Add(401, []byte(`Authorization: Metal-Edit 0123456789abcdef0123456789abcdef`))
	f.Add(502, []byte("<html>bad gateway</html>"))
	f.Add(500, []byte("{\"message\":\"\xff\xfe\"}"))
	f.Add(404, []byte(`"404: Page Not Found"`))
	f.Add(300, []byte(``))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		message := errorMessage(bytes.NewReader(body))
		assert.LessOrEqual(t, len(message), metal.MaxMessage+len("…"))
		assert.True(t, utf8.ValidString(message))
		assert.Equal(t, message, redact(message), "what is redacted stays so")
		for _, c := range []class{classRead, classReadSecret, classAllocateMachine, classAllocateNetwork, classAllocateIP, classFree, classUpdateIP, classPower, classReinstall, classState} {
			kind := classify(c, status, message)
			switch {
			case c&classReads != 0:
				assert.NotContains(t, []metal.Kind{metal.Uncertain, metal.Conflict}, kind, "a read changes nothing")
			case status >= http.StatusInternalServerError && kind == metal.Refused:
				// The two that the metal-api answers with 500 before it begins.
				assert.Regexp(t, `no ips left$|does not have prefixes configured$`, message)
			case outage.MatchString(message) && status == http.StatusUnprocessableEntity:
				assert.Equal(t, metal.Uncertain, kind, "an outage is no refusal")
			}
		}
	})
}
