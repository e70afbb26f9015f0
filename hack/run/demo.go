// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// A demo is the three programs, the examples, and what is printed about them.
type demo struct {
	options
	examples  *examples
	client    dynamic.Interface
	processes []*process

	metalAPI, admin, api string // addresses
	kubeconfig           string
}

func newDemo(o options) (*demo, error) {
	state, err := filepath.Abs(o.state)
	if err != nil {
		return nil, err
	}
	o.state = state
	d := &demo{options: o, kubeconfig: filepath.Join(state, "kubeconfig")}
	if d.examples, err = readExamples(o.examples); err != nil {
		return nil, err
	}
	// The simulated data centre begins anew each time, so must the records.
	for _, old := range []string{"data", "kubeconfig"} {
		if err := os.RemoveAll(filepath.Join(state, old)); err != nil {
			return nil, err
		}
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	d.metalAPI, d.admin, d.api = ports[0], ports[1], ports[2]
	return d, nil
}

// freePorts returns loopback addresses that are not listened on at the moment. They are
// below those that the kernel gives to whoever asks for any, until the programs start.
func freePorts(n int) ([]string, error) {
	var addresses []string
	for tries := 100; len(addresses) < n; tries-- {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000)))
		switch {
		case err == nil:
			defer listener.Close() // all at the end, so that they differ
			addresses = append(addresses, listener.Addr().String())
		case tries == 0:
			return nil, fmt.Errorf("no free port between 12000 and 32000: %w", err)
		}
	}
	return addresses, nil
}

// start starts the programs, each when the one that it needs is ready.
func (d *demo) start(ctx context.Context) error {
	if err := d.launch("metal-api-simulator", []string{
		"--listen", d.metalAPI,
		"--admin-listen", d.admin,
		"--machines", fmt.Sprint(d.machines),
		"--speed", fmt.Sprint(d.speed),
	}); err != nil {
		return err
	}
	if err := d.ready(ctx, d.metalAPIURL()+"/v1/health"); err != nil {
		return err
	}
	if err := d.furnish(ctx); err != nil {
		return err
	}
	d.print("metal-api-simulator", "%s, %d machines, %g times as fast as real hardware", d.metalAPIURL(), d.machines, d.speed)
	d.print("", "http://%s, where machines can be crashed and answers lost", d.admin)

	_, port, _ := net.SplitHostPort(d.api)
	args := []string{
		"--standalone", "--bind-address=127.0.0.1", "--secure-port=" + port,
		"--data-dir=" + filepath.Join(d.state, "data"),
		"--kubeconfig-out=" + d.kubeconfig,
		"--metal-api-url=" + d.metalAPIURL(),
	}
	for _, binding := range d.examples.bindings {
		args = append(args, "--project-binding", binding)
	}
	began := time.Now()
	if err := d.launch("metalstack-apiserver", args, "METAL_API_HMAC="+simulator.DefaultHMAC.Edit); err != nil {
		return err
	}
	if err := d.ready(ctx, "https://"+d.api+"/readyz"); err != nil {
		return err
	}
	d.print("metalstack-apiserver", "https://%s, ready after %s", d.api, time.Since(began).Round(100*time.Millisecond))

	if err := d.launch("metalstack-controller-manager", []string{
		"--standalone", "--kubeconfig", d.kubeconfig,
		"--metrics-bind-address=" + d.managerMetrics, "--metrics-secure=false",
	}); err != nil {
		return err
	}
	d.print("metalstack-controller-manager", "started; logs of all three in %s", relative(d.state))
	return nil
}

// furnish does in the data centre what operators of metal-stack do, so that there is something to
// see: an image expires soon, and machines are reserved for a project.
func (d *demo) furnish(ctx context.Context) error {
	for path, body := range map[string]string{
		"/images/ubuntu-22.04.20250701/expire": `{"in": "480h"}`,
		"/reservations": fmt.Sprintf(`{"project": %q, "partition": %q, "size": %q, "amount": 2}`,
			simulator.ProjectB, simulator.DefaultPartition, simulator.LargeSize),
	} {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.admin+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("POST %s: %s", path, answer.Status)
		}
	}
	return nil
}

// metalAPIURL has the path under which a real metal-api is served, too.
func (d *demo) metalAPIURL() string { return "http://" + d.metalAPI + "/metal" }

// exhibit applies the examples.
func (d *demo) exhibit(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", d.kubeconfig)
	if err != nil {
		return err
	}
	// As kubectl prints them.
	config.WarningHandler = rest.NewWarningWriter(os.Stdout, rest.WarningWriterOptions{Deduplicate: true})
	if d.client, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	if err := d.examples.applyWithin(ctx, d.client, 10*time.Second); err != nil {
		return err
	}
	d.print("examples", "%d objects of %s applied", len(d.examples.objects), d.options.examples)
	return nil
}

func (d *demo) launch(name string, args []string, env ...string) error {
	p, err := start(d.state, name, filepath.Join(d.bin, name), args, env)
	if err != nil {
		return err
	}
	d.processes = append(d.processes, p)
	return nil
}

// firstEnd delivers the first program that ends.
func (d *demo) firstEnd() <-chan *process {
	first := make(chan *process, len(d.processes))
	for _, p := range d.processes {
		go func() {
			<-p.ended
			first <- p
		}()
	}
	return first
}

// stop stops the programs, those that need others first.
func (d *demo) stop() {
	fmt.Println()
	for _, p := range slices.Backward(d.processes) {
		p.stop()
		d.print(p.name, "stopped")
	}
}

func (d *demo) print(what, format string, args ...any) {
	fmt.Printf("%-30s %s\n", what, fmt.Sprintf(format, args...))
}

func relative(path string) string {
	if here, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(here, path); err == nil && len(rel) < len(path) {
			return rel
		}
	}
	return path
}
