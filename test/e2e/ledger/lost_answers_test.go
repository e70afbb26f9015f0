// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/kubernetes"
)

// status is the answer of an API server with that status.
func status(s metav1.Status) *http.Response {
	s.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	body, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return &http.Response{StatusCode: int(s.Code), Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body))}
}

// notNow is the answer of something in between that asks for another try.
func notNow(code int) *http.Response {
	return &http.Response{StatusCode: code, Header: http.Header{"Retry-After": {"1"}, "Content-Type": {"text/plain"}}, Body: io.NopCloser(bytes.NewReader([]byte("not now")))}
}

// writes are the three of them; each is made to a record of an environment of its own.
var writes = map[string]struct {
	method string
	// do writes, and returns the new version.
	do func(ctx context.Context, l ledger.Ledger, version string) (string, error)
}{
	"create": {http.MethodPost, func(ctx context.Context, l ledger.Ledger, _ string) (string, error) {
		return l.Create(ctx, key, []byte("new"))
	}},
	"update": {http.MethodPut, func(ctx context.Context, l ledger.Ledger, version string) (string, error) {
		return l.Update(ctx, key, version, []byte("new"))
	}},
	"delete": {http.MethodDelete, func(ctx context.Context, l ledger.Ledger, version string) (string, error) {
		return "", l.Delete(ctx, key, version)
	}},
}

// eachWrite runs a test for every write, with the version of the record that
// it is made to.
func eachWrite(t *testing.T, test func(t *testing.T, env *environment, wire *wire, method string, do func(context.Context) (string, error))) {
	t.Helper()
	for verb, write := range writes {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t)
			wire := &wire{}
			l := env.ledger(wire)
			version := ""
			if verb != "create" {
				version = env.create(l, key, "old")
			}
			test(t, env, wire, write.method, func(ctx context.Context) (string, error) { return write.do(ctx, l, version) })
		})
	}
}

// expectDone checks that a write was done, once.
func (env *environment) expectDone(method, version string) {
	env.t.Helper()
	if method == http.MethodDelete {
		require.Nil(env.t, env.recordOf(key))
		return
	}
	env.expect(key, "new", version)
}

func TestWrite_LostAnswerIsAcknowledged(t *testing.T) {
	t.Parallel()
	for how, lose := range map[string]func(*http.Response) (*http.Response, error){
		"connection lost": func(*http.Response) (*http.Response, error) { return nil, errLost },
		"body cut off": func(resp *http.Response) (*http.Response, error) {
			resp.Body = io.NopCloser(io.MultiReader(io.LimitReader(resp.Body, 20), failingReader{}))
			return resp, nil
		},
		"503 with Retry-After":    func(*http.Response) (*http.Response, error) { return notNow(http.StatusServiceUnavailable), nil },
		"504 of a load balancer":  func(*http.Response) (*http.Response, error) { return notNow(http.StatusGatewayTimeout), nil },
		"500 of the API server":   func(*http.Response) (*http.Response, error) { return status(serverTimeout), nil },
		"200 of a captive portal": func(*http.Response) (*http.Response, error) { return notNow(http.StatusOK), nil },
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			eachWrite(t, func(t *testing.T, env *environment, wire *wire, method string, do func(context.Context) (string, error)) {
				wire.on(method, once(func(pass pass) (*http.Response, error) {
					resp, err := pass()
					assert.NoError(t, err)
					assert.Less(t, resp.StatusCode, 300)
					return lose(resp)
				}))
				version, err := do(t.Context())
				require.NoError(t, err)
				env.expectDone(method, version)
			})
		})
	}
}

var serverTimeout = metav1.Status{
	Status: metav1.StatusFailure, Reason: metav1.StatusReasonServerTimeout, Code: http.StatusInternalServerError,
	Details: &metav1.StatusDetails{RetryAfterSeconds: 1},
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// A load balancer that sends a request again hides the first answer, and shows
// the refusal that its own success is to blame for.
func TestWrite_RepeatedByProxyIsAcknowledged(t *testing.T) {
	t.Parallel()
	eachWrite(t, func(t *testing.T, env *environment, wire *wire, method string, do func(context.Context) (string, error)) {
		if method == http.MethodDelete {
			t.Skip("a delete of what is gone does not know which delete succeeded, and answers that it is gone")
		}
		wire.on(method, func(pass pass) (*http.Response, error) {
			first, err := pass()
			assert.NoError(t, err)
			assert.Less(t, first.StatusCode, 300)
			second, err := pass()
			assert.NoError(t, err)
			assert.Equal(t, http.StatusConflict, second.StatusCode)
			return second, nil
		})
		version, err := do(t.Context())
		require.NoError(t, err)
		env.expectDone(method, version)
		require.Equal(t, 1, wire.count(method))
	})
}

func TestWrite_ThatNeverArrivesIsSentAgain(t *testing.T) {
	t.Parallel()
	eachWrite(t, func(t *testing.T, env *environment, wire *wire, method string, do func(context.Context) (string, error)) {
		wire.on(method, once(func(pass) (*http.Response, error) { return nil, errLost }))
		version, err := do(t.Context())
		require.NoError(t, err)
		env.expectDone(method, version)
		require.Equal(t, 2, wire.count(method))
	})
}

func TestWrite_UnknownOutcomeIsNeitherAcknowledgedNorRefused(t *testing.T) {
	t.Parallel()
	for how, hook := range map[string]func(pass) (*http.Response, error){
		"done": func(pass pass) (*http.Response, error) {
			_, err := pass()
			if err != nil {
				return nil, err
			}
			return nil, errLost
		},
		"not done": func(pass) (*http.Response, error) { return nil, errLost },
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			eachWrite(t, func(t *testing.T, _ *environment, wire *wire, method string, do func(context.Context) (string, error)) {
				wire.set(func(_ *http.Request, pass pass) (*http.Response, error) { return hook(pass) })
				ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
				defer cancel()
				_, err := do(ctx)
				isOpen(t, err)
				require.Greater(t, wire.count(method), 1)
			})
		})
	}
}

// isOpen checks that an error says nothing about whether a write was done.
func isOpen(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	for _, definite := range []error{ledger.ErrExists, ledger.ErrNotFound, ledger.ErrConflict, ledger.ErrNotWritten} {
		require.NotErrorIs(t, err, definite)
	}
}

func TestWrite_ThatHangsEndsInTime(t *testing.T) {
	t.Parallel()
	for verb, write := range writes {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			// A bubble, as no API server takes part, and a busy machine would be counted, too.
			synctest.Test(t, func(t *testing.T) {
				l, err := kubernetes.New(&rest.Config{Host: "https://192.0.2.1", Transport: hangs{}}, "system")
				require.NoError(t, err)
				began := time.Now()
				_, err = write.do(t.Context(), l, "u/1")
				require.ErrorIs(t, err, context.DeadlineExceeded)
				isOpen(t, err)
				require.Less(t, time.Since(began), 9*time.Second, "no time is left for the caller to look")
			})
		})
	}
}

func TestWrite_ThatIsLostLeavesItsCallerTime(t *testing.T) {
	t.Parallel()
	for verb, write := range writes {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, err := kubernetes.New(&rest.Config{Host: "https://192.0.2.1", Transport: fails{errLost}}, "system")
				require.NoError(t, err)
				// Shorter than what a write takes by itself; a quarter of it is left when it ends.
				ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
				defer cancel()
				_, err = write.do(ctx, l, "u/1")
				require.ErrorIs(t, err, errLost)
				isOpen(t, err)
				require.NoError(t, ctx.Err())
			})
		})
	}
}

// fails is a network that answers each request with an error.
type fails struct{ err error }

// RoundTrip implements http.RoundTripper.
func (f fails) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

// hangs is a network that answers no request.
type hangs struct{}

// RoundTrip implements http.RoundTripper.
func (hangs) RoundTrip(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func TestWrite_OvertakenAfterLostAnswerIsConflict(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	wire := &wire{}
	l, other := env.ledger(wire), env.ledger(nil)
	version := env.create(l, key, "old")
	theirs := ""
	wire.on(http.MethodPut, once(func(pass pass) (*http.Response, error) {
		_, err := pass()
		assert.NoError(t, err)
		theirs, err = other.Update(t.Context(), key, env.recordOf(key).Version, []byte("theirs"))
		assert.NoError(t, err)
		return nil, errLost
	}))
	_, err := l.Update(t.Context(), key, version, []byte("new"))
	require.ErrorIs(t, err, ledger.ErrConflict)
	env.expect(key, "theirs", theirs)

	wire.on(http.MethodPut, once(func(pass) (*http.Response, error) {
		assert.NoError(t, other.Delete(t.Context(), key, theirs))
		return nil, errLost
	}))
	_, err = l.Update(t.Context(), key, theirs, []byte("new"))
	require.ErrorIs(t, err, ledger.ErrNotFound)

	wire.on(http.MethodPost, once(func(pass) (*http.Response, error) {
		theirs = env.create(other, key, "theirs")
		return nil, errLost
	}))
	_, err = l.Create(t.Context(), key, []byte("new"))
	require.ErrorIs(t, err, ledger.ErrExists)
	env.expect(key, "theirs", theirs)
}

func TestWrite_BusyAPIServerIsRetriedAndNothingIsUncertain(t *testing.T) {
	t.Parallel()
	eachWrite(t, func(t *testing.T, env *environment, wire *wire, method string, do func(context.Context) (string, error)) {
		wire.set(func(*http.Request, pass) (*http.Response, error) { return notNow(http.StatusTooManyRequests), nil })
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := do(ctx)
		require.ErrorIs(t, err, ledger.ErrNotWritten)

		wire.on(method, once(func(pass) (*http.Response, error) { return notNow(http.StatusTooManyRequests), nil }))
		version, err := do(t.Context())
		require.NoError(t, err)
		env.expectDone(method, version)
	})
}

func TestWrite_WithoutAPIServerNothingIsUncertain(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	_, refused := net.Dial("tcp", address)
	require.Error(t, refused)
	synctest.Test(t, func(t *testing.T) {
		l, err := kubernetes.New(&rest.Config{Host: "https://192.0.2.1", Transport: fails{refused}}, "system")
		require.NoError(t, err)
		for verb, write := range writes {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := write.do(ctx, l, "u/1")
			cancel()
			require.ErrorIs(t, err, ledger.ErrNotWritten, verb)
		}
	})
}

func TestWrite_ForbiddenChangesNothing(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t)
	version := env.create(env.ledger(nil), key, "old")
	l, err := kubernetes.New(env.plane.User("nobody"), env.namespace)
	require.NoError(t, err)
	for verb, write := range writes {
		_, err := write.do(t.Context(), l, version)
		require.ErrorIs(t, err, ledger.ErrNotWritten, verb)
		require.ErrorContains(t, err, "nobody")
	}
	l, err = kubernetes.New(env.plane.Admin(), "no-such-namespace")
	require.NoError(t, err)
	_, err = l.Create(t.Context(), key, nil)
	require.ErrorIs(t, err, ledger.ErrNotWritten)
	require.ErrorContains(t, err, `namespaces "no-such-namespace" not found`)
	env.expect(key, "old", version)
}
