// SPDX-License-Identifier: Apache-2.0

package warning

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apiserver/pkg/endpoints/filters"
)

// The recorder of k8s.io/apiserver drops what cannot be a header.
func TestAdd_ReachesTheHeaderWhateverTheTextHolds(t *testing.T) {
	t.Parallel()
	said := errors.Join(errors.New("rethinkdb: no primary\n\tat server 1"), errors.New("say \"no\" \\ \x00"))
	recorder := httptest.NewRecorder()
	filters.WithWarningRecorder(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		Add(r.Context(), "machines: %v", said)
	})).ServeHTTP(recorder, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	headers, errs := net.ParseWarningHeaders(recorder.Header().Values("Warning"))
	require.Empty(t, errs)
	require.Len(t, headers, 1)
	assert.Equal(t, `machines: rethinkdb: no primary at server 1 say "no" \`, headers[0].Text)
}
