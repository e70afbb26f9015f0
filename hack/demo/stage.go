// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// stage lets what plays for tests play here: the fixtures in test/ want a
// testing.TB. A failure ends the play.
type stage struct {
	testing.TB // for what only the package testing can have
	ctx        context.Context
	dir        string

	mu       sync.Mutex
	cleanups []func()
	failures []string
}

func newStage(ctx context.Context) (*stage, error) {
	dir, err := os.MkdirTemp("", "demo-")
	return &stage{ctx: ctx, dir: dir}, err
}

// perform runs the play, and then, however that ended, clears the stage.
func (s *stage) perform(play func()) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		play()
	}()
	<-ended
	for {
		s.mu.Lock()
		n := len(s.cleanups)
		if n == 0 {
			s.mu.Unlock()
			break
		}
		last := s.cleanups[n-1]
		s.cleanups = s.cleanups[:n-1]
		s.mu.Unlock()
		last()
	}
	_ = os.RemoveAll(s.dir)
	// A canceled context fails everything in flight.
	if s.ctx.Err() != nil || !s.Failed() {
		return nil
	}
	return errors.New(strings.Join(s.failures, "\n"))
}

func (s *stage) Helper()                  {}
func (s *stage) Name() string             { return "demo" }
func (s *stage) Context() context.Context { return s.ctx }
func (s *stage) TempDir() string          { return s.dir }
func (s *stage) ArtifactDir() string      { return s.dir }

func (s *stage) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleanups = append(s.cleanups, f)
}

func (s *stage) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.failures) > 0
}

func (s *stage) fail(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, text)
}

func (s *stage) Log(args ...any)                   { s.Logf("%s", fmt.Sprintln(args...)) }
func (s *stage) Logf(string, ...any)               {}
func (s *stage) Error(args ...any)                 { s.fail(fmt.Sprint(args...)) }
func (s *stage) Errorf(format string, args ...any) { s.fail(fmt.Sprintf(format, args...)) }
func (s *stage) Fail()                             { s.fail("failed") }

// FailNow ends the play, not the program.
func (s *stage) FailNow() {
	if !s.Failed() {
		s.fail("failed")
	}
	runtime.Goexit()
}

func (s *stage) Fatal(args ...any) {
	s.Error(args...)
	runtime.Goexit()
}

func (s *stage) Fatalf(format string, args ...any) {
	s.Errorf(format, args...)
	runtime.Goexit()
}
