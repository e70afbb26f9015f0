// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A server whose revision 7 has expired, and whose present one is 9.
func newExpiredServer(t *testing.T) *side {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch query := r.URL.Query(); {
		case query.Get("watch") == "":
			fmt.Fprint(w, `{"metadata":{"resourceVersion":"9"}}`)
		case query.Get("resourceVersion") == "7":
			http.Error(w, "too old", http.StatusGone)
		default:
			fmt.Fprint(w, `{"type":"MODIFIED","object":{"metadata":{"annotations":{"compare/sent":"1-1"}}}}`+"\n"+`{"type":"ERROR","object":{"code":500}}`+"\n")
		}
	}))
	t.Cleanup(server.Close)
	return &side{version: customVersion, admin: func() *client { return &client{Client: server.Client(), host: server.URL} }}
}

func expiredResponse() *http.Response {
	return &http.Response{Body: io.NopCloser(strings.NewReader(`{"type":"ERROR","object":{"code":410}}` + "\n"))}
}

func TestDeliveries_BeginAnewAfterExpiredRevision(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]*http.Response{
		"event":  expiredResponse(),
		"status": {Body: io.NopCloser(strings.NewReader(""))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newExpiredServer(t)
			d := &deliveries{after: make([]time.Duration, 2), marker: []byte(`"compare/sent":"1-`), last: "7", expire: true}
			err := d.watch(t.Context(), s.admin(), s, first, time.Now())
			require.ErrorContains(t, err, `"code":500`)
			assert.EqualValues(t, 1, d.expired.Load())
			assert.EqualValues(t, 1, d.seen.Load())
			assert.Equal(t, "9", d.last)
		})
	}
}

func TestDeliveries_ExpiredRevisionIsAnErrorOfMeasures(t *testing.T) {
	t.Parallel()
	s := newExpiredServer(t)
	d := &deliveries{marker: []byte(`"compare/sent":"1-`), last: "7"}
	require.ErrorIs(t, d.watch(t.Context(), s.admin(), s, expiredResponse(), time.Now()), errExpired)
}

func TestSlowReader_ReadsSoManyBytesASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		all, err := io.ReadAll(&slowReader{ctx: t.Context(), Reader: strings.NewReader(strings.Repeat("x", 1000)), bytesASecond: 100})
		require.NoError(t, err)
		assert.Len(t, all, 1000)
		assert.InDelta(t, 10, time.Since(began).Seconds(), 0.2)
	})
}
