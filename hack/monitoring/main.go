// SPDX-License-Identifier: Apache-2.0

// Command monitoring tries the dashboard and the alerts with a real Prometheus: it writes a
// configuration by which that scrapes what `make run` started, and evaluates every query in it.
// It needs no Grafana, and does not render a panel.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
)

// component is where the dashboard and the rules are.
const component = "artifacts/deploy/components/monitoring"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "monitoring:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	configure := flag.String("configure", "", "directory to write prometheus.yml, its rules and its credential to")
	kubeconfig := flag.String("kubeconfig", ".run/kubeconfig", "kubeconfig of the server that is scraped (with --configure)")
	manager := flag.String("manager", "127.0.0.1:8080", "address of the controller manager's /metrics (with --configure)")
	prometheus := flag.String("prometheus", "", "URL of the Prometheus that evaluates all queries, such as http://127.0.0.1:9090")
	flag.Parse()
	rules, err := readRules(filepath.Join(component, "rules.yaml"))
	if err != nil {
		return err
	}
	switch {
	case *configure != "":
		return writeConfiguration(*configure, *kubeconfig, *manager, rules)
	case *prometheus != "":
		queries, err := readDashboard(filepath.Join(component, "dashboard.json"))
		if err != nil {
			return err
		}
		return evaluate(ctx, os.Stdout, *prometheus, append(queries, rules.queries()...))
	}
	return errors.New("set --configure, or --prometheus")
}
