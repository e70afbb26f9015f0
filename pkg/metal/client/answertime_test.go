// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/metal/internal/metaltest"
)

func TestAnswerTime_ExcludesDecoding(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		ctx, answered := metal.WithAnswerTime(context.Background())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://metal-api.test/", nil)
		require.NoError(t, err)
		e.transport.Answer(func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return metaltest.Respond(200, "application/json", "[]")(r)
		})
		response, err := answerTimeTransport{next: e.transport, clock: clock.RealClock{}}.RoundTrip(r)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		buffer := make([]byte, 1)
		_, err = response.Body.Read(buffer)
		require.NoError(t, err)
		require.Equal(t, time.Second, answered.Total())
	})
}

func TestAnswerTime_IsUntilFirstByteIsThere(t *testing.T) {
	runTest(t, envConfig{}, func(t *testing.T, e *env) {
		ctx, answered := metal.WithAnswerTime(context.Background())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://metal-api.test/", nil)
		require.NoError(t, err)
		e.transport.Answer(func(r *http.Request) (*http.Response, error) {
			trace := httptrace.ContextClientTrace(r.Context())
			time.Sleep(time.Second) // connecting
			trace.WroteRequest(httptrace.WroteRequestInfo{})
			time.Sleep(2 * time.Second)
			trace.GotFirstResponseByte()
			time.Sleep(time.Minute) // until a goroutine has it
			return metaltest.Respond(200, "application/json", "[]")(r)
		})
		response, err := answerTimeTransport{next: e.transport, clock: clock.RealClock{}}.RoundTrip(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, 2*time.Second, answered.Total())
	})
}
