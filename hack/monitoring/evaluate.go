// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// answer is Prometheus' to an instant query.
type answer struct {
	Status string `json:"status"`
	Error  string `json:"error"`
	Data   struct {
		Result []struct {
			Metric map[string]string `json:"metric"`
			Value  [2]any            `json:"value"`
		} `json:"result"`
	} `json:"data"`
}

// evaluate prints what each query returns now. It is an error if Prometheus refuses one.
func evaluate(ctx context.Context, out io.Writer, prometheus string, queries []query) error {
	client := &http.Client{Timeout: 10 * time.Second}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "QUERY\tSERIES\tFIRST")
	var refused []error
	empty := 0
	for _, q := range queries {
		a, err := ask(ctx, client, prometheus, q.text)
		switch {
		case err != nil:
			refused = append(refused, fmt.Errorf("%s: %w", q.where, err))
		case len(a.Data.Result) > 0:
			first := a.Data.Result[0]
			fmt.Fprintf(table, "%s\t%d\t%s %v\n", q.where, len(a.Data.Result), labels(first.Metric), first.Value[1])
		case q.alert:
			fmt.Fprintf(table, "%s\t0\t\n", q.where)
		default:
			empty++
			fmt.Fprintf(table, "%s\t0\tempty: %s\n", q.where, q.text)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d queries, %d refused, %d of panels without a series\n", len(queries), len(refused), empty)
	return errors.Join(refused...)
}

func ask(ctx context.Context, client *http.Client, prometheus, text string) (*answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(prometheus, "/")+"/api/v1/query?"+url.Values{"query": {text}}.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var a answer
	if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
		return nil, fmt.Errorf("%s is no answer of Prometheus: %w", response.Status, err)
	}
	if a.Status != "success" {
		return nil, fmt.Errorf("%s", a.Error)
	}
	return &a, nil
}

// labels are those of a series, in order.
func labels(metric map[string]string) string {
	var all []string
	for name, value := range metric {
		all = append(all, fmt.Sprintf("%s=%q", name, value))
	}
	slices.Sort(all)
	return "{" + strings.Join(all, ", ") + "}"
}
