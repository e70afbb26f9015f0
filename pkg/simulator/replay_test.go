// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/metal-stack/security"
	"github.com/stretchr/testify/require"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// TestReplay_Exchanges replays every recorded exchange in a data centre set
// up to match: same status, same field names and types, same message form,
// same effect afterwards. The effect is checked by the exchanges that follow.
//
// RECORDINGS names a further directory of recordings; those take their
// places, by number, between and before the ones that are here.
func TestReplay_Exchanges(t *testing.T) {
	t.Parallel()
	recordings := loadRecordings(t, "testdata/exchanges")
	if dir := os.Getenv("RECORDINGS"); dir != "" {
		recordings = merge(recordings, loadRecordings(t, dir))
	}
	recordings = merge(loadInferred(t), recordings)
	for _, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.play(t, recordings)
		})
	}
}

// TestReplay_ExchangesOfVersion0431 replays what the version before answers
// differently: quotas.
func TestReplay_ExchangesOfVersion0431(t *testing.T) {
	t.Parallel()
	sceneOfVersion0431().play(t, loadRecordings(t, "testdata/exchanges-v0.43.1"))
}

// replay is one simulator that recordings are replayed against.
type replay struct {
	sim      *simulator.Simulator
	url      string
	clock    *clocktesting.FakeClock
	comparer *comparer
	machines *timelines
	awake    bool   // machines give signs of life, and report when they are installed
	next     string // the machine that the next allocation by size takes, if it may
}

func newReplay(t testing.TB, cfg simulator.Config, start time.Time) *replay {
	t.Helper()
	r := &replay{clock: clocktesting.NewFakeClock(start), comparer: newComparer()}
	cfg.Clock = r.clock
	cfg.Pick = func(candidates []string) string {
		if slices.Contains(candidates, r.next) {
			return r.next
		}
		return candidates[0]
	}
	sim, err := simulator.New(cfg)
	require.NoError(t, err)
	srv := httptest.NewServer(sim.Handler())
	t.Cleanup(srv.Close)
	r.sim, r.url = sim, srv.URL
	return r
}

// answer is what came back.
type answer struct {
	status      int
	contentType string
	body        []byte
}

// request is what is sent; body may be nil, a string (sent as it is) or
// anything that JSON can hold.
type request struct {
	user, method, path string
	body               any
	// change may alter the request before it goes out.
	change func(*http.Request)
}

// keys of the technical users by their names, which are their HMAC types.
var keys = map[string]string{
	"Metal-Admin": simulator.DefaultHMAC.Admin,
	"Metal-Edit":  simulator.DefaultHMAC.Edit,
	"Metal-View":  simulator.DefaultHMAC.View,
	// A user whom the server does not know may use any key.
	"Metal-Nobody": "a-key",
}

func (r *replay) send(t testing.TB, rq request) answer {
	t.Helper()
	var body io.Reader
	switch b := rq.body.(type) {
	case nil:
	case string:
		body = strings.NewReader(b)
	default:
		data, err := json.Marshal(b)
		require.NoError(t, err)
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(t.Context(), rq.method, r.url+rq.path, body)
	require.NoError(t, err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if key, ok := keys[rq.user]; ok {
		sign(req, rq.user, key, time.Now())
	}
	if rq.change != nil {
		rq.change(req)
	}
	rsp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer rsp.Body.Close()
	data, err := io.ReadAll(rsp.Body)
	require.NoError(t, err)
	return answer{status: rsp.StatusCode, contentType: rsp.Header.Get("Content-Type"), body: data}
}

// sign signs a request as a technical user.
func sign(req *http.Request, user, key string, at time.Time) {
	auth := security.NewHMACAuth(user, []byte(key))
	for name, value := range auth.AuthHeaders(req.Method, at) {
		req.Header.Set(name, value)
	}
}

// exchange replays one recording and returns what is wrong.
func (r *replay) exchange(t testing.TB, rec *recording) []string {
	t.Helper()
	rq := request{user: rec.User, method: rec.Method, path: r.comparer.names.translate(rec.Path), change: changes[rec.name()]}
	if len(rec.Request) > 0 && string(rec.Request) != "null" {
		rq.body = r.comparer.names.translateValue(decode(t, rec.Request))
	}
	allocates := strings.HasSuffix(rec.Path, "/allocate") && rec.Status < 300
	r.next = picks[rec.number]
	if allocates {
		if m, ok := decode(t, rec.Response).(map[string]any); ok {
			r.next, _ = m["id"].(string)
		}
	}
	got := r.send(t, rq)

	var wrong []string
	if got.status != rec.Status {
		wrong = append(wrong, fmt.Sprintf("status: recorded %d, simulated %d: %s", rec.Status, got.status, brief(string(got.body))))
	}
	if got.contentType != rec.ContentType {
		wrong = append(wrong, fmt.Sprintf("content type: recorded %q, simulated %q", rec.ContentType, got.contentType))
	}
	if len(wrong) > 0 || rec.Response == nil {
		return wrong
	}
	want := decode(t, rec.Response)
	if text, ok := want.(string); ok {
		return append(wrong, r.refusal(t, rec, text, got.body)...)
	}
	if !json.Valid(got.body) {
		return append(wrong, "not JSON: "+brief(string(got.body)))
	}
	have := decode(t, got.body)
	return append(wrong, r.comparer.compare(settled(rec, want), settled(rec, have), allocates)...)
}

// refusal compares errors: JSON strings, most of which hold JSON.
func (r *replay) refusal(t testing.TB, rec *recording, want string, body []byte) []string {
	t.Helper()
	var got string
	if err := json.Unmarshal(body, &got); err != nil {
		return []string{"an error is a JSON string, simulated " + brief(string(body))}
	}
	want, got = settled(rec, want).(string), settled(rec, got).(string)
	if w, g, same := r.comparer.message(want, got); !same {
		return []string{fmt.Sprintf("recorded %s, simulated %s", w, g)}
	}
	return nil
}

// ask is an exchange that is not compared: it sets something up.
func (r *replay) ask(t testing.TB, method, path string, body any) map[string]any {
	t.Helper()
	got := r.send(t, request{
		user: "Metal-Admin", method: method,
		path: r.comparer.names.translate(path), body: r.comparer.names.translateValue(body),
	})
	require.Less(t, got.status, 300, "setting up: %s %s: %s", method, path, got.body)
	m, _ := decode(t, got.body).(map[string]any)
	return m
}

// at sets the clock to a recorded time, unless it is later already. It never
// stands at a whole millisecond, so that what is precise to the nanosecond
// shows.
func (r *replay) at(recorded time.Time) {
	now := r.clock.Now().Add(3_000_217 * time.Nanosecond)
	if recorded.After(now) {
		now = recorded.Truncate(time.Microsecond).Add(321 * time.Nanosecond)
	}
	r.clock.SetTime(now)
}
