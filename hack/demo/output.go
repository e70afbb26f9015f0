// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/test/e2e/capi"
)

// section prints the heading of the next part.
func (p *play) section(format string, args ...any) {
	fmt.Printf("\n━━ %s  (%s)\n\n", fmt.Sprintf(format, args...), time.Since(p.began).Round(time.Second))
}

// showCommand prints a command as a user would type it.
func (p *play) showCommand(format string, args ...any) {
	fmt.Printf("  $ %s\n", fmt.Sprintf(format, args...))
}

func (p *play) explain(format string, args ...any) {
	fmt.Printf("  %s\n", fmt.Sprintf(format, args...))
}

func (p *play) print(text string) {
	for line := range strings.Lines(text) {
		fmt.Print("    ", line)
	}
	fmt.Println()
}

// kubectl prints a command, runs it and prints its output.
func (p *play) kubectl(args ...string) {
	p.showCommand("kubectl %s", strings.Join(args, " "))
	p.print(p.output(args...))
}

// kubectlInWorkload is kubectl in the tenant's cluster.
func (p *play) kubectlInWorkload(args ...string) {
	p.showCommand("kubectl --kubeconfig %s.kubeconfig %s", name, strings.Join(args, " "))
	p.print(p.output(append([]string{"--kubeconfig", p.workloadConfig}, args...)...))
}

func (p *play) output(args ...string) string {
	ctx, cancel := context.WithTimeout(p.ctx, time.Minute)
	defer cancel()
	cmd := p.manager.KubectlCommand(ctx, p.manager.Admin(), args...)
	// Where its plugins are.
	cmd.Env = append(cmd.Env, "HTTPS_PROXY="+p.site.Proxy, "PATH="+p.bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		p.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, out.String())
	}
	return out.String()
}

// wait pauses between two parts.
func (p *play) wait() {
	select {
	case <-p.ctx.Done():
		p.FailNow()
	case <-time.After(p.pause):
	}
}

// printProgress prints every phase of machines, firewalls and remediations until stop is
// called.
func (p *play) printProgress() (stop func()) {
	ctx, cancel := context.WithCancel(p.ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := p.follow(ctx); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "  cannot follow the machines:", err)
		}
	}()
	return func() {
		cancel()
		<-ended
		fmt.Println()
	}
}

func (p *play) follow(ctx context.Context) error {
	c, err := client.NewWithWatch(p.manager.Admin(), client.Options{Scheme: capi.Scheme})
	if err != nil {
		return err
	}
	machines, err := c.Watch(ctx, &v1alpha4.MetalStackMachineList{}, client.InNamespace(namespace))
	if err != nil {
		return err
	}
	defer machines.Stop()
	firewalls, err := c.Watch(ctx, &v1alpha4.MetalStackFirewallList{}, client.InNamespace(namespace))
	if err != nil {
		return err
	}
	defer firewalls.Stop()
	remediations, err := c.Watch(ctx, &v1alpha4.MetalStackRemediationList{}, client.InNamespace(namespace))
	if err != nil {
		return err
	}
	defer remediations.Stop()
	phases, first := map[string]string{}, time.Now()
	for {
		var event watch.Event
		select {
		case <-ctx.Done():
			return nil
		case event = <-machines.ResultChan():
		case event = <-firewalls.ResultChan():
		case event = <-remediations.ResultChan():
		}
		var what, phase string
		switch obj := event.Object.(type) {
		case *v1alpha4.MetalStackMachine:
			what = "machine  " + obj.Name
			if obj.Status.Metal != nil {
				phase = obj.Status.Metal.Phase
			}
		case *v1alpha4.MetalStackFirewall:
			what = "firewall " + obj.Name
			if obj.Status.Metal != nil {
				phase = obj.Status.Metal.Phase
			}
		case *v1alpha4.MetalStackRemediation:
			what, phase = "reboot   "+obj.Name, string(obj.Status.Phase)
		default:
			return fmt.Errorf("watch: %v", event.Object)
		}
		if event.Type == watch.Deleted {
			phase = "(gone)"
		}
		old := phases[what]
		phases[what] = phase
		// What was there before is no news.
		if phase == "" || phase == old || old == "" && event.Type == watch.Added && time.Since(first) < time.Second {
			continue
		}
		fmt.Printf("  %s  %-45s %s\n", time.Now().Format(time.TimeOnly), what, phase)
	}
}
