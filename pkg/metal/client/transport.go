// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-openapi/runtime"
	httptransport "github.com/go-openapi/runtime/client"
	"github.com/go-openapi/strfmt"
	"github.com/metal-stack/security"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/baseurl"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// transport is the runtime.ClientTransport under metal-go's generated clients: it
// gives every call its deadline and the current credential, reads answers
// strictly, and turns whatever goes wrong into an *Error.
type transport struct {
	runtime  *httptransport.Runtime
	clock    clock.WithTicker
	timeouts Timeouts
	auth     atomic.Pointer[security.HMACAuth]
	metrics  *clientMetrics
}

var _ runtime.ClientTransport = &transport{}

func newMetalTransport(base string, opts Options) (*transport, error) {
	u, err := ParseURL("metal-api URL", base)
	if err != nil {
		return nil, err
	}
	answerTimes := answerTimeTransport{next: opts.Transport, clock: opts.Clock}
	if opts.Transport == nil {
		answerTimes.next, answerTimes.wakeups = newHTTPTransport(), &wakeupMeter{}
	}
	rt := httptransport.NewWithClient(u.Host, u.Path, []string{u.Scheme}, &http.Client{
		Transport: answerTimes,
		// A redirected POST would arrive as a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	// The environment can switch it on; it prints requests with their user data.
	rt.Debug = false
	// Whatever an answer calls itself, it is JSON or an error.
	rt.Consumers = map[string]runtime.Consumer{"*/*": runtime.ConsumerFunc(strictJSON)}
	return &transport{runtime: rt, clock: opts.Clock, timeouts: opts.Timeouts}, nil
}

// ParseURL returns the URL of a metal-api, or an error that begins with name and says which
// URLs are allowed. It quotes nothing that may be a secret.
func ParseURL(name, text string) (*url.URL, error) {
	u, err := baseurl.Rules{
		Name: name, Schemes: []string{"http", "https"}, Example: "https://api.example.org/metal",
		WithoutUser: "requests are signed with the HMAC key",
	}.Parse(text)
	if err != nil {
		return nil, err
	}
	// metal-go sends its requests to /v1/… below the path.
	if base, ok := strings.CutSuffix(strings.TrimRight(u.Path, "/"), "/v1"); ok {
		allowed := url.URL{Scheme: u.Scheme, Host: u.Host, Path: base}
		return nil, fmt.Errorf("%s must have the base path without /v1, which is added to it, such as %q, got %q", name, allowed.String(), baseurl.Redact(u))
	}
	return u, nil
}

// setHMAC replaces the credential.
func (t *transport) setHMAC(key, authType string) {
	auth := security.NewHMACAuth(authType, []byte(key))
	t.auth.Store(&auth)
}

// AuthenticateRequest implements runtime.ClientAuthInfoWriter.
func (t *transport) AuthenticateRequest(r runtime.ClientRequest, _ strfmt.Registry) error {
	// The metal-api compares with its own clock, whatever ours pretends.
	t.auth.Load().AddAuthToClientRequest(r, time.Now())
	return nil
}

// Submit implements runtime.ClientTransport.
func (t *transport) Submit(op *runtime.ClientOperation) (any, error) {
	known, ok := operations[op.ID]
	if !ok {
		return nil, &metal.Error{Kind: metal.Unavailable, Op: op.ID, Message: "unknown operation"}
	}
	parent := op.Context
	if parent == nil {
		parent = context.Background()
	}
	if err := parent.Err(); err != nil {
		return nil, &metal.Error{Kind: metal.Unavailable, Op: known.name, Message: "not sent: " + err.Error(), Err: err}
	}
	ctx, cancel := context.WithTimeout(parent, known.timeout(t.timeouts))
	defer cancel()
	op.Context = ctx
	op.AuthInfo = t
	op.Params = checkedParams{op.Params, op.ID, known}
	op.Reader = &responseReader{next: op.Reader, op: known}

	done := t.metrics.begin(known.name)
	began := t.clock.Now()
	result, err := t.runtime.Submit(op)
	if err != nil {
		err = known.wrapError(err)
	}
	done(t.clock.Since(began), metal.KindOf(err))
	return result, err
}

// wrapError turns an error of the runtime into an *Error.
func (o operation) wrapError(err error) *metal.Error {
	if e, ok := errors.AsType[*metal.Error](err); ok {
		return e
	}
	e := &metal.Error{
		Kind: metal.Uncertain, Op: o.name, Message: oneline.Sanitize(redact(err.Error()), metal.MaxMessage), NotSent: isNotSent(err), Err: err,
	}
	if o.class&classReads != 0 || e.NotSent {
		e.Kind = metal.Unavailable
	}
	return e
}

// isNotSent is true if err proves that no byte of the request was sent.
func isNotSent(err error) bool {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return true
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return true
	}
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

// responseReader stands before the generated reader of one operation.
type responseReader struct {
	next runtime.ClientResponseReader
	op   operation
}

// ReadResponse implements runtime.ClientResponseReader.
func (r *responseReader) ReadResponse(response runtime.ClientResponse, consumer runtime.Consumer) (any, error) {
	if status := response.Code(); status/100 != 2 {
		message := errorMessage(response.Body())
		e := &metal.Error{
			Kind:    classify(r.op.class, status, message),
			Op:      r.op.name,
			Message: explain(status, message),
			Status:  status,
			Err:     causeOf(r.op.class, message),
		}
		if e.Kind == metal.Refused {
			e.Field = refusedField(r.op.class, message)
		}
		return nil, e
	}
	result, err := r.next.ReadResponse(limitedResponse{response, r.op.limit}, consumer)
	if err != nil {
		e := r.op.wrapError(err)
		e.Status = response.Code()
		// A decoder can quote what it read, and a write's answer holds user data, that of
		// other reads a password.
		e.Message = "the answer was cut short or is no JSON of the metal-api"
		if r.op.class == classRead {
			e.Message += ": " + err.Error()
		} else {
			e.Err = nil
		}
		return nil, e
	}
	return result, nil
}

// errorMessage reads an error's body: a JSON string that holds JSON, or a
// plain JSON string (docs/metal-api.md, Q2), or whatever a proxy puts there.
func errorMessage(body io.Reader) string {
	raw, _ := io.ReadAll(io.LimitReader(body, maxErrorBytes))
	text := string(raw)
	var inner string
	if json.Unmarshal(raw, &inner) == nil {
		text = inner
	}
	var answer struct{ Message *string }
	if json.Unmarshal([]byte(text), &answer) == nil && answer.Message != nil {
		text = *answer.Message
	}
	return oneline.Sanitize(redact(text), metal.MaxMessage)
}

// credentialPattern is a request's authorization, as a proxy's error page may echo it.
var credentialPattern = regexp.MustCompile(`\b(Metal-\w+|Bearer) [\w.~+/=-]{16,}`)

func redact(s string) string { return credentialPattern.ReplaceAllString(s, "$1 [redacted]") }

// limitedResponse is a response whose body ends with an error beyond a size.
type limitedResponse struct {
	runtime.ClientResponse
	limit int64
}

func (l limitedResponse) Body() io.ReadCloser {
	return &limitedBody{l.ClientResponse.Body(), l.limit}
}

type limitedBody struct {
	io.ReadCloser
	left int64
}

var errTooLarge = errors.New("response is too large")

// Read implements io.Reader.
func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

var (
	errEmptyAnswer    = errors.New("response body is empty")
	errNoEntity       = errors.New("response has no entity")
	errDataAfterValue = errors.New("unexpected data after the JSON value in the response")
)

// strictJSON decodes exactly one JSON value. The generated readers take an
// empty body for an empty value; here it is an error.
func strictJSON(r io.Reader, into any) error {
	d := json.NewDecoder(r)
	if err := d.Decode(into); err != nil {
		if errors.Is(err, io.EOF) {
			return errEmptyAnswer
		}
		return err
	}
	return atEnd(d)
}

// atEnd reads on to the end, which also makes the connection reusable.
func atEnd(d *json.Decoder) error {
	switch _, err := d.Token(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return errDataAfterValue
}
