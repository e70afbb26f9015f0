// SPDX-License-Identifier: Apache-2.0

// Command compat runs the end-to-end core against a control plane of each version of
// Kubernetes that the modules below hack/compat pin, and prints as a table what works with
// which. The tests are those of test/e2e; areas.go says which of them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
)

type options struct {
	versions string
	areas    []string
	logs     string
	readme   string
	arm64    bool
}

func main() {
	var o options
	flags := pflag.NewFlagSet("compat", pflag.ContinueOnError)
	flags.StringVar(&o.versions, "versions", "", "minor versions of Kubernetes to try, such as 'v1.33 v1.35'; by default all that are pinned")
	flags.StringSliceVar(&o.areas, "areas", nil, "rows of the table to fill, such as 'Discovery,OpenAPI'; by default all")
	flags.StringVar(&o.logs, "logs", filepath.Join(".cache", "compat"), "where logs and test binaries go")
	flags.StringVar(&o.readme, "readme", "", "a page in whose table the cells of what was run are replaced, if all tests have passed")
	flags.BoolVar(&o.arm64, "arm64", true, "run the programs for linux/arm64 under qemu-user")
	if err := flags.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := compare(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\nERROR:", err)
		os.Exit(1)
	}
}

// compare runs everything, and returns an error if anything failed.
func compare(ctx context.Context, o options) error {
	pinned, err := pinnedVersions(".")
	if err != nil {
		return err
	}
	chosen, err := choose(pinned, o.versions)
	if err != nil {
		return err
	}
	selected, err := selectAreas(o.areas)
	if err != nil {
		return err
	}
	if o.logs, err = filepath.Abs(o.logs); err != nil {
		return err
	}
	r := &runner{logs: o.logs, out: os.Stdout}
	if err := r.build(ctx, packages(selected)); err != nil {
		return err
	}
	t := &table{areas: selected}
	for _, v := range chosen {
		outcomes, err := r.run(ctx, v, selected)
		if err != nil {
			return err
		}
		t.add(v, outcomes)
		fmt.Print(t.line(v), "\n\n")
	}
	if t.arm64 = notRun; o.arm64 {
		t.arm64 = tryARM64(ctx, o.logs, os.Stdout)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.stack, err = stack(ctx); err != nil {
		return err
	}
	fmt.Print("\n", t.markdown())
	if failed := t.failed(); len(failed) > 0 {
		return fmt.Errorf("%d failed:\n%s", len(failed), strings.Join(failed, "\n"))
	}
	if o.readme != "" {
		return t.updatePage(o.readme, pinned, areas)
	}
	return nil
}
