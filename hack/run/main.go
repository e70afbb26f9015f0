// SPDX-License-Identifier: Apache-2.0

// Command run shows the project at work on one machine, without Kubernetes
// and without metal: it starts the simulator, the API server in standalone
// mode and the controller manager, applies the examples, prints what to type next, and
// stops everything on Ctrl-C, or as soon as one of the three ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/pflag"
)

func init() {
	// See start: children are tied to the main thread.
	runtime.LockOSThread()
}

type options struct {
	bin, state, examples string
	managerMetrics       string
	speed                float64
	machines             int
	untilReady           bool
	exitAfter            time.Duration
	timeout              time.Duration
}

func main() {
	var o options
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	flags.StringVar(&o.bin, "bin", "bin", "where the three programs are")
	flags.StringVar(&o.state, "state", ".run", "where kubeconfig, logs and records go")
	flags.StringVar(&o.examples, "examples", "artifacts/examples", "what to apply")
	flags.Float64Var(&o.speed, "speed", 10, "how many times as fast as real hardware the simulated machines are")
	flags.IntVar(&o.machines, "machines", 8, "how many machines the simulated data centre has")
	flags.StringVar(&o.managerMetrics, "manager-metrics", "0", "address that the controller manager's /metrics is served at, without authentication; 0: it is not served")
	flags.BoolVar(&o.untilReady, "until-ready", false, "end when all examples have phoned home")
	flags.DurationVar(&o.exitAfter, "exit-after", 0, "end after this time; 0: on Ctrl-C")
	flags.DurationVar(&o.timeout, "timeout", 3*time.Minute, "how long programs and examples may take to be ready")
	if err := flags.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\nERROR:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if err := os.MkdirAll(o.state, 0o755); err != nil {
		return err
	}
	held, err := lock(o.state)
	if err != nil {
		return err
	}
	defer held.Close()

	d, err := newDemo(o)
	if err != nil {
		return err
	}
	defer d.stop()
	if o.exitAfter > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.exitAfter)
		defer cancel()
	}
	if err := d.start(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	if err := d.exhibit(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	d.printCommands()

	progress, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { cancel(d.printProgress(progress)) }()
	select {
	case <-progress.Done():
	case p := <-d.firstEnd():
		return p.exitReport()
	}
	return ignoreEnd(ctx, d.result(context.Cause(progress)))
}

// ignoreEnd drops the errors of a canceled context.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
