// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU times in /proc, USER_HZ.
const clockTick = 10 * time.Millisecond

// cpuTime is how long a process has used processors.
func cpuTime(pid int) (time.Duration, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The fields follow the command, which is in parentheses: the state is the
	// third of all, user and system time are the 14th and 15th.
	fields := strings.Fields(string(content[bytes.LastIndexByte(content, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %s", pid, content)
	}
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// residentMemory is the resident memory of a process, in bytes.
func residentMemory(pid int) (float64, error) { return memoryOf(pid, "VmRSS") }

// memoryOf is a field of a process's status: VmRSS, or VmHWM for its peak.
func memoryOf(pid int, field string) (float64, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	match := regexp.MustCompile(`(?m)^` + field + `:\s*(\d+) kB$`).FindSubmatch(content)
	if match == nil {
		return 0, fmt.Errorf("/proc/%d/status: no %s", pid, field)
	}
	kilobytes, err := strconv.ParseFloat(string(match[1]), 64)
	return kilobytes * 1024, err
}

// loadAverage is the machine's load average of the last minute.
func loadAverage() float64 {
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(content), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

// cpuSince returns a function that tells how much CPU the side's processes have
// used since.
func (s *side) cpuSince() func() (time.Duration, error) {
	before, err := s.cpu()
	return func() (time.Duration, error) {
		if err != nil {
			return 0, err
		}
		now, err := s.cpu()
		return now - before, err
	}
}

func (s *side) cpu() (sum time.Duration, err error) {
	for _, pid := range s.pids() {
		used, err := cpuTime(pid)
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

// liveHeap is how much memory a program's objects use after a garbage collection.
func liveHeap(ctx context.Context, c *client) (float64, error) {
	if _, err := c.get(ctx, "/debug/pprof/heap?gc=1", nil); err != nil {
		return 0, err
	}
	return gauge(ctx, c, "go_memstats_heap_alloc_bytes")
}

// gauge is a figure among a program's metrics.
func gauge(ctx context.Context, c *client, name string) (float64, error) {
	a, err := c.get(ctx, "/metrics", nil)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(a.body)) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}
