// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// addressBook is a Backend that has addresses.
type addressBook struct {
	Backend

	ips   []*metal.IP
	finds int
}

func (b *addressBook) FindIPs(context.Context, metal.IPQuery) ([]*metal.IP, error) {
	b.finds++
	return b.ips, nil
}

func TestServer_PollingReadsAddressesOncePerTTLAndNothingElse(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	book := &addressBook{ips: []*metal.IP{{Address: "203.0.113.1", Project: "a"}}}
	node := &metal.Machine{ID: "node", Tags: []string{"cluster.metal-stack.io/id=rose"}, Allocation: &metal.Allocation{Project: "a"}}
	server := NewServer(observed{"node": node}, book, nil, clock)
	rose := Cluster{NamespacedName: types.NamespacedName{Name: "rose"}, ID: "rose", Project: "a"}
	for range 6 {
		for _, request := range [][3]string{{http.MethodGet, "v1/health"}, {http.MethodPost, "v1/ip/find", `{"tags":null}`}, {http.MethodGet, "v1/machine/node"}} {
			req := httptest.NewRequestWithContext(t.Context(), request[0], "/", strings.NewReader(request[2]))
			req.Header.Set("Content-Type", "application/json")
			recorder := httptest.NewRecorder()
			server.Handler(rose, request[1]).ServeHTTP(recorder, req)
			require.Equal(t, http.StatusOK, recorder.Code, recorder.Body.String())
		}
		clock.Step(addressTTL / 3)
	}
	assert.Equal(t, 2, book.finds)
}

func TestIPs_AddressThatIsNotThereIsReadAgain(t *testing.T) {
	t.Parallel()
	clock := clocktesting.NewFakeClock(time.Unix(0, 0))
	book := &addressBook{}
	server := NewServer(observed{}, book, nil, clock)
	find := func(body string) string {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		recorder := httptest.NewRecorder()
		server.Handler(Cluster{ID: "rose", Project: "a"}, "v1/ip/find").ServeHTTP(recorder, req)
		return recorder.Body.String()
	}
	assert.Equal(t, "[]", find(`{}`))
	// It is allocated for a Service that names it, by another client.
	book.ips = []*metal.IP{{Address: "203.0.113.1", Project: "a"}, {Address: "2001:db8::1", Project: "a"}, {Address: "203.0.113.2", Project: "b"}}
	assert.Equal(t, "[]", find(`{"ipaddress":"203.0.113.1"}`))
	assert.Equal(t, 1, book.finds, "not more than once a second")
	clock.Step(unknownAddressTTL)
	assert.Contains(t, find(`{"ipaddress":"203.0.113.1"}`), "203.0.113.1")
	assert.Equal(t, 2, book.finds)
	clock.Step(unknownAddressTTL)
	assert.Contains(t, find(`{"ipaddress":"203.0.113.1"}`), "203.0.113.1")
	assert.Equal(t, 2, book.finds, "what is there is at most 10 s old")
	assert.Equal(t, "[]", find(`{"ipaddress":"203.0.113.2"}`), "of another project")
	assert.Equal(t, 3, book.finds)
	assert.NotContains(t, find(`{"addressfamily":"IPv6"}`), "203.0.113.1")
	assert.NotContains(t, find(`{"addressfamily":"IPv4"}`), "2001:db8::1")
}
