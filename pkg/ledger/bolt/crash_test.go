// SPDX-License-Identifier: Apache-2.0

package bolt_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger/bolt"
)

// crashFile makes this binary the process that is killed.
const crashFile = "LEDGER_CRASH_TEST_FILE"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashFile); path != "" {
		if err := writeUntilKilled(path, os.Getenv(crashFile+"_ROUND")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// writeUntilKilled creates, updates and deletes records and prints a line for
// each write that the ledger acknowledged: the key and its value, or the key
// alone for one that was deleted.
func writeUntilKilled(path, round string) error {
	l, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return err
	}
	var out sync.Mutex
	say := func(words ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Println(words...)
	}
	failed := make(chan error)
	for writer := range 8 {
		go func() {
			for i := 0; ; i++ {
				if err := writeOne(l, fmt.Sprintf("round-%s/writer-%d/%d", round, writer, i), i%5 == 0, say); err != nil {
					failed <- err
				}
			}
		}()
	}
	return <-failed
}

func writeOne(l *bolt.Ledger, key string, remove bool, say func(...any)) error {
	ctx := context.Background()
	version, err := l.Create(ctx, key, []byte("created"))
	if err != nil {
		return err
	}
	say(key, "created")
	if version, err = l.Update(ctx, key, version, []byte("updated")); err != nil {
		return err
	}
	say(key, "updated")
	if remove {
		if err := l.Delete(ctx, key, version); err != nil {
			return err
		}
		say(key)
	}
	return nil
}

// TestLedger_AcknowledgedWritesSurviveKill runs this binary as a server that is
// killed at a random moment, several times on one file.
func TestLedger_AcknowledgedWritesSurviveKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	acknowledged := map[string]string{}
	var lastVersion uint64
	for round := range 5 {
		patience := 20 + rand.IntN(200)
		for _, line := range killedAfter(t, path, round, patience) {
			key, value, _ := strings.Cut(line, " ")
			acknowledged[key] = value
		}
		lastVersion = checkAcknowledged(t, path, acknowledged, lastVersion)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d keys acknowledged", len(acknowledged))
}

// killedAfter returns what the child acknowledged before it died.
func killedAfter(t *testing.T, path string, round, lines int) []string {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashFile+"="+path, crashFile+"_ROUND="+strconv.Itoa(round))
	child.Stderr = os.Stderr
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { _ = child.Process.Kill() }
	late := time.AfterFunc(time.Minute, kill)
	defer late.Stop()
	var acknowledged []string
	for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
		acknowledged = append(acknowledged, scanner.Text())
		if len(acknowledged) == lines {
			// Somewhere between this line and the next ones.
			time.AfterFunc(time.Duration(rand.IntN(3000))*time.Microsecond, kill)
		}
	}
	err = child.Wait()
	if child.ProcessState.Success() || !strings.Contains(fmt.Sprint(err), "killed") {
		t.Fatalf("the child was not killed: %v", err)
	}
	return acknowledged
}

// checkAcknowledged reads the file as the next process would. A last write
// that was done and not acknowledged may be there or not.
func checkAcknowledged(t *testing.T, path string, acknowledged map[string]string, lastVersion uint64) uint64 {
	t.Helper()
	l, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	list, err := l.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]string{}
	highest := lastVersion
	for _, r := range list {
		stored[r.Key] = string(r.Value)
		version, err := strconv.ParseUint(r.Version, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		highest = max(highest, version)
	}
	for key, value := range acknowledged {
		switch found := stored[key]; {
		case found == value:
		case value == "created" && found == "updated":
		case value == "updated" && found == "" && (strings.HasSuffix(key, "0") || strings.HasSuffix(key, "5")):
		default:
			t.Errorf("%s was acknowledged as %q and is %q", key, value, found)
		}
	}
	// A new write takes a version above every one that was handed out.
	version, err := l.Create(t.Context(), fmt.Sprintf("check/%d", len(acknowledged)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := strconv.ParseUint(version, 10, 64); v <= highest {
		t.Errorf("version %s after %d", version, highest)
	}
	return highest
}
