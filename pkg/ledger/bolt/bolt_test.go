// SPDX-License-Identifier: Apache-2.0

package bolt_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/bolt"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/ledgertest"
)

// file is an open ledger that remembers where it is.
type file struct {
	*bolt.Ledger
	path string
}

func open(t testing.TB, path string) *file {
	t.Helper()
	l, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := &file{Ledger: l, path: path}
	t.Cleanup(func() {
		if f.Ledger != nil {
			_ = f.Close()
		}
	})
	return f
}

func TestLedger_Contract(t *testing.T) {
	ledgertest.Run(t, ledgertest.Harness{
		New: func(t *testing.T) ledger.Ledger {
			return open(t, filepath.Join(t.TempDir(), "new", "ledger.db"))
		},
		Reopen: func(t *testing.T, l ledger.Ledger) ledger.Ledger {
			f := l.(*file)
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			f.Ledger = nil
			return open(t, f.path)
		},
	})
}

func TestOpen_NamesTheProcessThatHasTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	open(t, path)
	_, err := bolt.Open(path, bolt.Options{LockTimeout: time.Millisecond})
	if err == nil {
		t.Fatal("one file was opened twice")
	}
	for _, want := range []string{path, "another process", "stop that process"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestOpen_RefusesForeignFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("not a ledger", 10000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bolt.Open(path, bolt.Options{}); err == nil {
		t.Error("it was opened")
	}
}

func TestClose_EndsWrites(t *testing.T) {
	l, err := bolt.Open(filepath.Join(t.TempDir(), "ledger.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Create(t.Context(), "a/b", nil); err == nil {
		t.Error("a write was acknowledged")
	}
}

// BenchmarkCreate shows what a write costs for one writer after the other, and
// for many at a time, who share syncs.
func BenchmarkCreate(b *testing.B) {
	value := []byte(strings.Repeat("v", 3000))
	for _, writers := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l := open(b, filepath.Join(b.TempDir(), "ledger.db"))
			var next atomic.Int64
			b.SetParallelism(writers) // times GOMAXPROCS
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := l.Create(b.Context(), fmt.Sprintf("machines/ns/%d", next.Add(1)), value); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
