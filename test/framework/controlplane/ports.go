// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"metal-stack.io/infrastructure-apiserver/test/framework/build"
)

// FreePort is a TCP port on which nobody listens on 127.0.0.1. It lies below
// the range from which outgoing connections take theirs, so that it is still
// free after a restart of whoever listens on it, and is this process's: tests
// of other packages, which run beside it, get other ones.
func FreePort() (int, error) {
	last := errors.New("all are taken by other tests")
	for range 100 {
		port := 12000 + rand.IntN(20000)
		taken, err := reservations.take(port)
		if err != nil {
			return 0, err
		}
		if !taken {
			continue
		}
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, listener.Close()
		}
		last = err
	}
	return 0, fmt.Errorf("no free port between 12000 and 32000: %w", last)
}

// reservations are the ports that this process has taken.
var reservations = portReservations{path: filepath.Join(build.Root(), ".cache", "ports")}

// portReservations takes ports: each is a byte of an empty file, which the process has locked
// until it ends, however that happens.
type portReservations struct {
	path string

	mu    sync.Mutex
	file  *os.File
	taken map[int]bool // a process can lock a byte twice
}

// take reports whether no one else has the port.
func (r *portReservations) take(port int) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.file == nil {
		if err := os.MkdirAll(filepath.Dir(r.path), 0o755); err != nil {
			return false, err
		}
		file, err := os.OpenFile(r.path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return false, err
		}
		// It is never closed: the locks would go.
		r.file, r.taken = file, map[int]bool{}
	}
	if r.taken[port] {
		return false, nil
	}
	err := syscall.FcntlFlock(r.file.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: int64(port), Len: 1})
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EAGAIN):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("failed to lock %s: %w", r.path, err)
	}
	r.taken[port] = true
	return true, nil
}
