// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// startScript starts a shell script. The kernel ties a child to the thread that
// started it, which a test does not keep, so the script is not tied.
func startScript(t *testing.T, script string) *process {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	p, err := start(dir, "program", program, nil, []string{"WORD=farewell"})
	require.NoError(t, err)
	t.Cleanup(p.stop)
	return p
}

func TestStop_EndsProgramAndChildren(t *testing.T) {
	// Whoever lives holds the pipe open. A process that nobody has waited for
	// yet is dead all the same, though it can still be signalled.
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	p := startScript(t, "exec 3>"+pipe+"; (trap '' TERM; echo alive >&3; sleep 1000) & wait")
	alive, err := os.Open(pipe)
	require.NoError(t, err)
	defer alive.Close()
	_, err = io.ReadFull(alive, make([]byte, len("alive\n")))
	require.NoError(t, err)
	p.stop()
	require.NoError(t, alive.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = alive.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "the whole group is gone")
	p.stop() // again is fine
}

func TestExitReport_ContainsLastLogLines(t *testing.T) {
	p := startScript(t, `seq 100; echo $WORD; exit 3`)
	<-p.ended
	require.ErrorContains(t, p.exitReport(), "exit status 3")
	require.ErrorContains(t, p.exitReport(), "farewell")
	require.NotContains(t, p.exitReport().Error(), "\n    80\n", "the last lines, not all")
}

func TestExitReport_BeginsWithPanic(t *testing.T) {
	p := startScript(t, `echo "panic: no way"; seq 100; exit 2`)
	<-p.ended
	require.ErrorContains(t, p.exitReport(), "panic: no way")
	require.NotContains(t, p.exitReport().Error(), "\n    80\n")
}

func TestReady_EndsWithProgram(t *testing.T) {
	d := &demo{options: options{timeout: time.Minute}}
	d.processes = []*process{startScript(t, "echo no such flag; exit 1")}
	err := d.ready(t.Context(), "http://127.0.0.1:1/readyz")
	require.ErrorContains(t, err, "no such flag")
}

func TestReady_WaitsForOK(t *testing.T) {
	asked := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	d := &demo{options: options{timeout: time.Minute}}
	require.NoError(t, d.ready(t.Context(), server.URL))
	require.GreaterOrEqual(t, asked, 3, "a busy machine may answer too late, and is asked again")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, d.ready(ctx, "http://127.0.0.1:1/readyz"), context.Canceled)
}

func TestDirectory_SecondRunIsRefused(t *testing.T) {
	dir := t.TempDir()
	held, err := lock(dir)
	require.NoError(t, err)
	_, err = lock(dir)
	require.ErrorIs(t, err, errRunning)
	require.NoError(t, held.Close())
	held, err = lock(dir)
	require.NoError(t, err)
	require.NoError(t, held.Close())
}
