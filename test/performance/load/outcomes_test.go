// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// outcomes counts what became of requests: what the server answered, before
// client-go repeats anything, and what the caller got in the end.
type outcomes struct {
	mu      sync.Mutex
	counts  map[outcome]int
	example map[outcome]string
}

type outcome struct {
	verb, what string
	fatal      bool
}

func newOutcomes() *outcomes {
	return &outcomes{counts: map[outcome]int{}, example: map[outcome]string{}}
}

// note counts the outcome of a request. It is false if there was an error.
func (o *outcomes) note(verb string, err error) bool {
	what, again := classify(err)
	if verb == "allocate" || verb == "release" {
		again = again || notNow(err)
	}
	o.add(outcome{verb: verb, what: what, fatal: !again}, err)
	return err == nil
}

func (o *outcomes) add(out outcome, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts[out]++
	if err != nil && o.example[out] == "" {
		o.example[out] = err.Error()
	}
}

// classify names an outcome, and says whether a client is done or tries again:
// a conflict is read again and written again, whatever says Retry-After is
// repeated after that, and a connection that was closed is made again. All
// other errors clients see.
func classify(err error) (what string, again bool) {
	if err == nil {
		return "done", true
	}
	var netErr net.Error
	code := int32(0)
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		code = status.Status().Code
	}
	_, delay := apierrors.SuggestsClientDelay(err)
	switch {
	case errors.Is(err, context.Canceled):
		return "ended by the test", true
	case apierrors.IsConflict(err):
		return "409 Conflict", true
	case delay && (code == http.StatusTooManyRequests || code >= http.StatusInternalServerError):
		return fmt.Sprintf("%d %s, retry after", code, apierrors.ReasonForError(err)), true
	case code != 0:
		return fmt.Sprintf("%d %s", code, apierrors.ReasonForError(err)), false
	case utilnet.IsConnectionReset(err), utilnet.IsHTTP2ConnectionLost(err), utilnet.IsProbableEOF(err), strings.Contains(err.Error(), "GOAWAY"),
		strings.Contains(err.Error(), "http2: client connection"):
		return "connection closed", true
	case errors.As(err, &netErr) && netErr.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time", false
	}
	return "other error", false
}

// notNow is whether an allocation cannot be now. Its message is text, so
// it asks clients for no retry (pkg/allocation/errors.go): who
// asks is the controller manager, which records the message and tries again.
func notNow(err error) bool { return apierrors.IsServiceUnavailable(err) || apierrors.IsTimeout(err) }

// fatal are the outcomes that no client may see, each with an example.
func (o *outcomes) fatal() (all []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for out, n := range o.counts {
		if out.fatal {
			all = append(all, fmt.Sprintf("%d × %s: %s, e.g. %s", n, out.verb, out.what, o.example[out]))
		}
	}
	slices.Sort(all)
	return all
}

// table lists all outcomes.
func (o *outcomes) table() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VERB\tOUTCOME\tTIMES\tA CLIENT")
	sorted := slices.SortedFunc(maps.Keys(o.counts), func(a, b outcome) int {
		return strings.Compare(a.verb+a.what, b.verb+b.what)
	})
	for _, out := range sorted {
		then := "is done"
		if out.fatal {
			then = "FAILS"
		} else if out.what != "done" {
			then = "tries again"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", out.verb, out.what, o.counts[out], then)
	}
	_ = w.Flush()
	return b.String()
}

// counted has the server's answers counted.
func counted(to *outcomes) func(http.RoundTripper) http.RoundTripper {
	return func(rt http.RoundTripper) http.RoundTripper { return answers{rt, to} }
}

// answers counts what the server sent on the wire, below client-go's own
// repetitions.
type answers struct {
	http.RoundTripper
	to *outcomes
}

// WrappedRoundTripper implements utilnet.RoundTripperWrapper.
func (a answers) WrappedRoundTripper() http.RoundTripper { return a.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (a answers) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := a.RoundTripper.RoundTrip(req)
	if err == nil && res.StatusCode >= http.StatusBadRequest {
		what := res.Status
		if res.Header.Get("Retry-After") != "" {
			what += ", Retry-After"
		}
		a.to.add(outcome{verb: "on the wire: " + req.Method, what: what}, nil)
	}
	return res, err
}
