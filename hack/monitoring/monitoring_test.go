// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../.."

func TestQueries_AreThoseOfDashboardAndRules(t *testing.T) {
	t.Parallel()
	panels, err := readDashboard(filepath.Join(root, component, "dashboard.json"))
	require.NoError(t, err)
	assert.Greater(t, len(panels), 30)
	for _, q := range panels {
		assert.NotContains(t, q.text, "$", q.where)
		assert.NotEmpty(t, q.text, q.where)
	}
	r, err := readRules(filepath.Join(root, component, "rules.yaml"))
	require.NoError(t, err)
	assert.Greater(t, len(r.queries()), 10)
	for _, q := range r.queries() {
		assert.NotEmpty(t, q.text, q.where)
	}
}

// prometheus answers as Prometheus does: to a query with the word broken with an error, to one
// with the word empty with no series.
func prometheus(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch text := r.URL.Query().Get("query"); {
		case r.URL.Path != "/api/v1/query":
			http.NotFound(w, r)
		case strings.Contains(text, "broken"):
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"status":"error","errorType":"bad_data","error":"parse error: unexpected end of input"}`)
		case strings.Contains(text, "empty"):
			fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[]}}`)
		default:
			fmt.Fprint(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{"verb":"get","job":"a"},"value":[1,"5"]}]}}`)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestEvaluate_PrintsSeriesAndReportsWhatIsRefused(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := evaluate(t.Context(), &out, prometheus(t)+"/", []query{
		{where: "panel 1 Calls, A", text: "calls"},
		{where: "panel 2 Nothing, A", text: "empty"},
		{where: "alert Fine", text: "empty", alert: true},
		{where: "panel 3 Wrong, A", text: "sum(broken"},
	})
	require.ErrorContains(t, err, "panel 3 Wrong, A: parse error")
	assert.Contains(t, out.String(), `{job="a", verb="get"} 5`)
	assert.Contains(t, out.String(), "empty: empty")
	assert.Contains(t, out.String(), "4 queries, 1 refused, 1 of panels without a series")
}

func TestEvaluate_ReportsWhatIsNoPrometheus(t *testing.T) {
	t.Parallel()
	err := evaluate(t.Context(), &bytes.Buffer{}, prometheus(t)+"/elsewhere", []query{{where: "panel 1 Calls, A", text: "calls"}})
	assert.ErrorContains(t, err, "404 Not Found is no answer of Prometheus")
}
