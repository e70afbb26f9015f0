// SPDX-License-Identifier: Apache-2.0

package client

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

func TestWakeups_DelayOfWait(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.Unix(0, 0).Add(time.Duration(ms) * time.Millisecond) }
	w := wakeups{due: at(5)}
	for name, c := range map[string]struct {
		began, now int
		want       time.Duration
	}{
		"nothing was due":                  {0, 4, 0},
		"what is due is not noticed":       {0, 65, 60 * time.Millisecond},
		"it began later than what was due": {50, 65, 15 * time.Millisecond},
	} {
		require.Equal(t, c.want, w.delayOf(at(c.began), at(c.now)), name)
	}
	w.notice(at(65))
	require.Equal(t, 60*time.Millisecond, w.delayOf(at(0), at(66)), "what was due was noticed late")
	require.Zero(t, w.delayOf(at(65), at(66)), "before the wait")
	require.Equal(t, 130*time.Millisecond, w.delayOf(at(65), at(200)), "the next one is late")
	w.notice(at(200))
	w.notice(at(205))
	require.Zero(t, w.delayOf(at(65), at(206)), "the last one counts")
}

func TestWakeupMeter_MeasuresWhileCallsAreInFlight(t *testing.T) {
	t.Parallel()
	m := &wakeupMeter{}
	noticed := func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return !m.wakeups.noticed.IsZero()
	}
	for range 2 {
		m.start()
		m.start()
		m.end()
		require.Eventually(t, noticed, time.Minute, time.Millisecond)
		pipe := m.pipe
		m.end()
		require.Nil(t, m.pipe)
		_, err := pipe.Stat()
		require.Error(t, err, "it is closed")
		require.Zero(t, m.delayOf(time.Now().Add(-time.Hour), time.Now()))
	}
}

func TestWakeupMeter_EndsWithCall(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) }))
	m := &wakeupMeter{}
	transport := answerTimeTransport{next: server.Client().Transport, clock: clock.RealClock{}, wakeups: m}
	for _, closed := range []bool{false, true} {
		if closed {
			server.Close()
		}
		ctx, answered := metal.WithAnswerTime(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		require.NoError(t, err)
		response, err := transport.RoundTrip(r)
		require.Equal(t, closed, err != nil)
		if err == nil {
			require.Equal(t, 1, m.calls)
			require.NoError(t, response.Body.Close())
			require.NoError(t, response.Body.Close())
		}
		require.Zero(t, m.calls)
		require.Positive(t, answered.Total())
		require.LessOrEqual(t, answered.Delay(), answered.Total())
	}
}
