// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"bytes"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clocktesting "k8s.io/utils/clock/testing"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func TestErrors_SayWhatMayHaveBeenDone(t *testing.T) {
	t.Parallel()
	lost := func() (int, any) { panic(http.ErrAbortHandler) }
	status := func(err apierrors.APIStatus) func() (int, any) {
		return func() (int, any) { return int(err.Status().Code), err.Status() }
	}
	proxy := func() (int, any) { return http.StatusServiceUnavailable, "error trying to reach service: EOF" }
	timeout := status(apierrors.NewTimeoutError("metal-api: context deadline exceeded", 0))
	internal := status(apierrors.NewInternalError(errors.New("panic")))
	const post, unlock, read = "POST metalstackmachines/worker-1/power", "DELETE metalstackmachines/worker-1/lock", "GET metalstackmachines/worker-1/power"
	for i, c := range []struct {
		request string
		answer  func() (int, any)
		says    bool
	}{
		{post, lost, true},
		{post, timeout, true},
		{post, internal, true},
		{post, proxy, true},
		{post, status(apierrors.NewServiceUnavailable("metal-api unavailable: retry")), false},
		{post, status(apierrors.NewConflict(infrastructure.Resource("metalstackmachines"), "worker-1", assert.AnError)), false},
		{unlock, lost, true},
		{unlock, timeout, true},
		{read, lost, false},
		{read, timeout, false},
		{read, internal, false},
	} {
		s := shop(t)
		s.onEach(c.request, c.answer)
		args := map[string][]string{
			post: {"power", "on", "worker-1"}, unlock: {"unlock", "worker-1", "--reason=x"}, read: {"power", "worker-1"},
		}[c.request]
		o := s.run(args...)
		require.Equal(t, 1, o.code)
		if c.says {
			assert.Contains(t, o.stderr, "\nIt may have been done. `kubectl metal describe` shows what is known of it.\n", "case %d", i)
		} else {
			assert.NotContains(t, o.stderr, "may have been done", "case %d", i)
		}
	}
	s := shop(t)
	s.onEach(post, lost)
	assert.NotContains(t, s.run("power", "on", "worker-1", "--dry-run=server").stderr, "may have been done")
	s.Close()
	assert.NotContains(t, s.run("power", "boot-disk", "worker-1").stderr, "may have been done", "nothing was sent")
}

// Whatever a server or another user writes is text.
func TestOutput_HasNoControlCharactersOfTheServer(t *testing.T) {
	t.Parallel()
	const evil = "a\x1b[2J\nerror: b\u009b31m\rc"
	s := shop(t)
	m := s.machines[0]
	m.OwnerReferences[0].Name = evil
	m.Labels["cluster.x-k8s.io/cluster-name"] = evil
	m.Status.Metal.Phase, m.Status.Metal.MachineID = evil, evil
	m.Status.Conditions = []metav1.Condition{condition("Ready", "False", evil, evil, 0), condition("Reinstalling", "True", evil, evil, 0)}
	waited := func() outcome {
		clock := clocktesting.NewFakeClock(now)
		done := s.begin(terminal{clock: clock}, "wait", "worker-1", "--for=ready", "--timeout=1m")
		s.watchBegun()
		clock.Step(time.Minute)
		return end(t, done)
	}
	outcomes := []outcome{waited()}
	assert.Contains(t, outcomes[0].stderr, "last seen: a [2J error: b 31m c, Ready is False")
	for _, args := range [][]string{
		{"power", "off", "worker-1"}, {"power", "off", "worker-1", "--yes"}, {"ls"}, {"describe", "worker-1"},
	} {
		outcomes = append(outcomes, s.run(args...))
	}
	for _, o := range outcomes {
		for _, text := range []string{o.stdout, o.stderr} {
			assert.NotRegexp(t, `[\x00-\x09\x0b-\x1f\x{80}-\x{9f}]`, text)
			assert.NotContains(t, text, "\nerror: b")
		}
	}
}

// An error of the client has lines of its own, and can quote what a server sent.
func TestErrors_KeepLinesAndNoOtherControlCharacters(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	env := Environment{IOStreams: genericiooptions.IOStreams{ErrOut: &out}}
	printError(env, errors.New("a\x1b[2J\u009b31m\rb\nUsage: c"))
	assert.Equal(t, "error: a [2J 31m b\nUsage: c\n", out.String())
}
