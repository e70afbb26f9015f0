// SPDX-License-Identifier: Apache-2.0

// metal-api-simulator serves a simulated metal-api: the REST surface of the
// real one with its answers, errors, quirks and, with --costs, answer times,
// over an in-memory data centre. See pkg/simulator.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
	"metal-stack.io/infrastructure-apiserver/pkg/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(os.Stdout).ExecuteContext(ctx); err != nil {
		os.Exit(1)
	}
}

type options struct {
	listen, adminListen, basePath string
	machines                      int
	seed                          uint64
	speed                         float64
	powerReports                  time.Duration
	costs                         bool
	version                       string
	hmac                          simulator.HMACKeys
	logJSON                       bool
	logCalls                      bool
}

func command(out io.Writer) *cobra.Command {
	o := &options{}
	cmd := &cobra.Command{
		Use:           "metal-api-simulator",
		Short:         "Serve a simulated metal-api",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), out) },
		Long:          "Serve a metal-api to build, demonstrate, test and measure against: no hardware, no database.\nThe base URL and a client's environment are printed to standard output when it serves.",
		SilenceErrors: false,
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "Address that the metal-api is served at. With port 0, a free port is chosen.")
	f.StringVar(&o.adminListen, "admin-listen", "127.0.0.1:0", "Address of the admin endpoint (faults, events, inventory), which has no authentication. If empty, it is not served.")
	f.StringVar(&o.basePath, "base-path", "/metal", "Path before /v1. That of a real metal-api is /metal.")
	f.IntVar(&o.machines, "machines", 32, "Number of machines in the data centre, up to 30000.")
	f.Uint64Var(&o.seed, "seed", 1, "Seed of the random number generator.")
	f.DurationVar(&o.powerReports, "power-report-interval", 0, "Time between reports of which machines have power, which is what power states are read from. 0 is five minutes divided by --speed, and less than 0 has them up to date.")
	f.Float64Var(&o.speed, "speed", 1, "Factor by which provisioning is faster than that of real machines. With 0, machines do not proceed by themselves.")
	f.BoolVar(&o.costs, "costs", false, "Delay responses by the time that a real metal-api takes with a fleet of this size.")
	f.StringVar(&o.version, "metal-api-version", "", "Version of the metal-api to simulate, for example v0.43.1. If empty, v0.44.1.")
	f.StringVar(&o.hmac.Admin, "hmac-admin", simulator.DefaultHMAC.Admin, "HMAC key of Metal-Admin.")
	f.StringVar(&o.hmac.Edit, "hmac-edit", simulator.DefaultHMAC.Edit, "HMAC key of Metal-Edit.")
	f.StringVar(&o.hmac.View, "hmac-view", simulator.DefaultHMAC.View, "HMAC key of Metal-View.")
	f.BoolVar(&o.logJSON, "log-json", false, "Log in JSON format.")
	f.BoolVar(&o.logCalls, "log-calls", false, "Log the method, path, status and duration of every call.")
	version.AddFlag(cmd, f)
	return cmd
}

func (o *options) run(ctx context.Context, out io.Writer) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if o.logJSON {
		log = slog.New(slog.NewJSONHandler(os.Stderr, nil))
	}
	if o.machines < 0 || o.machines > 30000 {
		return fmt.Errorf("--machines must be between 0 and 30000, inclusive, got %d", o.machines)
	}
	base := strings.TrimRight("/"+strings.Trim(o.basePath, "/"), "/")
	sim, err := simulator.New(simulator.Config{
		Seed: o.seed, Speed: o.speed, PowerReportInterval: o.powerReports, Costs: o.costs, HMAC: o.hmac, Version: o.version, BasePath: base,
		DataCentre: simulator.DefaultDataCentre(o.machines),
	})
	if err != nil {
		return err
	}
	handler := sim.Handler()
	if o.logCalls {
		handler = logCalls(log, handler)
	}
	var servers []*http.Server
	failed := make(chan error, 2)
	serve := func(address string, h http.Handler) (string, error) {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return "", err
		}
		srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
		servers = append(servers, srv)
		go func() {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		}()
		return "http://" + l.Addr().String(), nil
	}
	url, err := serve(o.listen, handler)
	if err != nil {
		return err
	}
	admin := ""
	if o.adminListen != "" {
		if admin, err = serve(o.adminListen, sim.AdminHandler()); err != nil {
			return err
		}
	}
	log.Info("Serving", "url", url+base, "admin", admin, "machines", o.machines, "seed", o.seed, "speed", o.speed, "costs", o.costs)
	if _, err := fmt.Fprintf(out, "METAL_API_URL=%s\nMETAL_API_ADMIN_URL=%s\n", url+base, admin); err != nil {
		return err
	}

	running, end := context.WithCancel(ctx)
	defer end()
	go sim.Run(running)
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	log.Info("Stopping")
	sim.Close()
	grace, done := context.WithTimeout(context.Background(), 5*time.Second)
	defer done()
	for _, srv := range servers {
		err = errors.Join(err, srv.Shutdown(grace))
	}
	return err
}

// logCalls logs no header and no body: they hold credentials and user data.
func logCalls(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w}
		defer func() {
			log.Info("Call", "method", r.Method, "path", r.URL.Path, "status", rec.status, "duration", time.Since(start).Round(100*time.Microsecond))
		}()
		next.ServeHTTP(rec, r)
	})
}

type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}
