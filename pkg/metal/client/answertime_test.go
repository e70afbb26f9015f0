// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
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
		response, err := answerTimeTransport{e.transport, clock.RealClock{}}.RoundTrip(r)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		buffer := make([]byte, 1)
		_, err = response.Body.Read(buffer)
		require.NoError(t, err)
		require.Equal(t, time.Second, answered.Total())
	})
}
