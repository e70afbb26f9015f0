// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"net/http"
)

// answers counts answers of 429 and above 499, by status.
type answers map[int]int

// count counts answers that clients have to repeat. Those of 5xx that do not ask for that
// (Retry-After) are failures, whatever the client makes of them.
func (l *Traffic) count(transport http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		response, err := transport.RoundTrip(r)
		if err != nil || response.StatusCode < http.StatusInternalServerError && response.StatusCode != http.StatusTooManyRequests {
			return response, err
		}
		if response.Header.Get("Retry-After") == "" {
			l.fail("%s %s: %s, without Retry-After", r.Method, r.URL.Path, response.Status)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.answers[response.StatusCode]++
		return response, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
