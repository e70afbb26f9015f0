// SPDX-License-Identifier: Apache-2.0

// Command demo shows the whole thing on one machine: a management cluster with
// Cluster API and this provider as clusterctl installs them, a simulated data
// centre, and a tenant's cluster that is made, scaled, repaired and deleted.
// Ctrl-C stops all of it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

type options struct {
	bin        string
	kubeconfig string
	speed      float64
	machines   int
	pause      time.Duration
	stay       bool
}

func main() {
	var o options
	flags := pflag.NewFlagSet("demo", pflag.ContinueOnError)
	flags.StringVar(&o.bin, "bin", "bin", "where `make build` has put the programs")
	flags.StringVar(&o.kubeconfig, "kubeconfig-out", ".run/demo.kubeconfig", "where the management cluster's kubeconfig goes")
	flags.Float64Var(&o.speed, "speed", 20, "how many times as fast as real hardware the simulated machines are")
	flags.IntVar(&o.machines, "machines", 24, "how many machines the simulated data centre has")
	flags.DurationVar(&o.pause, "pause", 5*time.Second, "how long to wait between two parts")
	flags.BoolVar(&o.stay, "stay", false, "stop before the cluster is deleted, and wait for Ctrl-C")
	if err := flags.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}

	var err error
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	cluster.UsePrograms(o.bin)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	s, err := newStage(ctx)
	if err == nil {
		p := &play{options: o, stage: s}
		err = s.perform(p.run)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\nERROR:", err)
		os.Exit(1)
	}
	fmt.Println("\nall stopped")
}
