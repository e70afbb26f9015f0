// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// failedPrefix begins what is said of programs that did not run.
const failedPrefix = "failed: "

// emulators are the names that qemu-user has for arm64.
var emulators = []string{"qemu-aarch64-static", "qemu-aarch64"}

// plugin is the program that make run does not need.
const plugin = "kubectl-metal"

var programs = []string{"metalstack-apiserver", "metalstack-controller-manager", "metal-api-simulator", plugin}

// tryARM64 builds the programs for linux/arm64 and runs them under qemu-user: --version of
// each, and then `make run` until the examples' machines have phoned home.
func tryARM64(ctx context.Context, logs string, out io.Writer) string {
	emulator, err := findEmulator()
	if err != nil {
		return notRun + ": " + err.Error()
	}
	fmt.Fprintln(out, "building the programs for linux/arm64 (with cold caches: some minutes)")
	for _, step := range []func(context.Context, string, string) error{buildARM64, printVersions, runExamples} {
		if err := step(ctx, emulator, filepath.Join(logs, "arm64")); err != nil {
			return failedPrefix + strings.ReplaceAll(err.Error(), "\n", " ")
		}
	}
	return passed
}

func findEmulator() (string, error) {
	for _, name := range emulators {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("no %s (Debian has it in qemu-user-static)", strings.Join(emulators, ", "))
}

// buildARM64 puts programs into dir/programs, and scripts that emulate them, under their
// names, into dir/bin.
func buildARM64(ctx context.Context, emulator, dir string) error {
	real, scripts := filepath.Join(dir, "programs"), filepath.Join(dir, "bin")
	for _, d := range []string{real, scripts} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	args := []string{"build", "-trimpath", "-o", real + "/"}
	for _, program := range programs {
		args = append(args, "./cmd/"+program)
	}
	build := exec.CommandContext(ctx, "go", args...)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, output)
	}
	for _, program := range programs {
		path := filepath.Join(real, program)
		file, err := elf.Open(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		machine := file.Machine
		if err := errors.Join(file.Close()); err != nil {
			return err
		}
		if machine != elf.EM_AARCH64 {
			return fmt.Errorf("%s: is for %s: want %s", path, machine, elf.EM_AARCH64)
		}
		script := fmt.Sprintf("#!/bin/sh\nexec %q %q \"$@\"\n", emulator, path)
		if err := os.WriteFile(filepath.Join(scripts, program), []byte(script), 0o755); err != nil { //nolint:gosec // It is run.
			return err
		}
	}
	return nil
}

func printVersions(ctx context.Context, _, dir string) error {
	for _, program := range programs {
		output, err := exec.CommandContext(ctx, filepath.Join(dir, "bin", program), "--version").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s --version: %w: %s", program, err, output)
		}
		if err := isVersion(program, string(output)); err != nil {
			return err
		}
	}
	return nil
}

// isVersion checks what --version of a program printed. The version itself is unknown, as in
// each build without the Makefile.
func isVersion(program, output string) error {
	if program == plugin {
		program = "kubectl metal" // as it is called
	}
	if !strings.HasPrefix(output, program+" ") || !strings.Contains(output, "(commit ") {
		return fmt.Errorf("%s --version: printed %q", program, output)
	}
	return nil
}

// runExamples runs what `make run` runs, but for programs of arm64: the simulator, the API
// server without a cluster, the controller manager, and a cluster of the examples.
func runExamples(ctx context.Context, _, dir string) error {
	log, err := os.Create(filepath.Join(dir, "run.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	// go run passes no signal on.
	runner := filepath.Join(dir, "run")
	if output, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", runner, "./hack/run").CombinedOutput(); err != nil {
		return fmt.Errorf("go build ./hack/run: %w: %s", err, output)
	}
	run := exec.CommandContext(ctx, runner, "--bin", filepath.Join(dir, "bin"), "--state", filepath.Join(dir, "state"), "--until-ready", "--timeout=10m")
	run.Stdout, run.Stderr = log, log
	run.Cancel = func() error { return run.Process.Signal(syscall.SIGINT) }
	run.WaitDelay = endDelay
	if err := run.Run(); err != nil {
		return fmt.Errorf("make run: %w: see %s", err, log.Name())
	}
	return nil
}
