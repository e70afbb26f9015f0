// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const whatToType = `
Now, in another terminal:

  export KUBECONFIG=%[1]s%[2]s
  kubectl get msc,msf,msm -A
  kubectl get msm -w
  kubectl explain msm.status.metal

What there is to be had, and could I have it now:

  kubectl get mspart,mssize,msimg,msproj,msnet,msip
  kubectl create --dry-run=server -f artifacts/examples/claims/large-worker.yaml

Crash a machine, and see that the next answer knows:

  MACHINE=$(kubectl get msm -o jsonpath='{.items[0].status.metal.machineID}')
  curl -X POST http://%[3]s/machines/$MACHINE/crash
  kubectl get msm

What else can be done to the data centre: curl http://%[3]s
Ctrl-C stops all of it.

`

func (d *demo) printCommands() {
	path := ""
	if _, err := exec.LookPath("kubectl"); err != nil {
		if bin, err := filepath.Abs(d.bin); err == nil {
			path = "\n  export PATH=" + bin + ":$PATH"
		}
	}
	fmt.Printf(whatToType, relative(d.kubeconfig), path, d.admin)
}

// errReady ends the progress when all machines have phoned home.
var errReady = errors.New("ready")

// printProgress prints every phase of the examples' machines and firewalls. It ends
// with errReady if it is to end when all have phoned home.
func (d *demo) printProgress(ctx context.Context) error {
	if d.untilReady {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d.timeout, fmt.Errorf("not all examples have phoned home after %s", d.timeout))
		defer cancel()
	}
	began := time.Now()
	events := make(chan watch.Event)
	for _, resource := range []string{"metalstackmachines", "metalstackfirewalls"} {
		if err := d.follow(ctx, resource, events); err != nil {
			return err
		}
	}

	phases, home := map[string]string{}, map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case event := <-events:
			obj, ok := event.Object.(*unstructured.Unstructured)
			if !ok {
				continue
			}
			name := obj.GetKind()[len("MetalStack"):] + " " + obj.GetNamespace() + "/" + obj.GetName()
			phase, _, _ := unstructured.NestedString(obj.Object, "status", "metal", "phase")
			if event.Type == watch.Deleted {
				phase = "(gone)"
			}
			if phase == "" || phases[name] == phase {
				continue
			}
			phases[name] = phase
			fmt.Printf("%s  %-40s %s\n", time.Now().Format(time.TimeOnly), name, phase)
			if phase == infrastructure.PhasePhonedHome && !home[name] {
				home[name] = true
				if len(home) == d.examples.servers() {
					fmt.Printf("\nall %d machines and firewalls have phoned home after %s\n", len(home), time.Since(began).Round(time.Second))
					if d.untilReady {
						return errReady
					}
				}
			}
		}
	}
}

// follow delivers the events of one resource, from what is there now on.
func (d *demo) follow(ctx context.Context, resource string, events chan<- watch.Event) error {
	resources := d.client.Resource(v1alpha4.SchemeGroupVersion.WithResource(resource))
	list, err := resources.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	watcher, err := toolswatch.NewRetryWatcherWithContext(ctx, list.GetResourceVersion(), &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return resources.Watch(ctx, options)
		},
	})
	if err != nil {
		return err
	}
	go func() {
		defer watcher.Stop()
		for i := range list.Items {
			send(ctx, events, watch.Event{Type: watch.Added, Object: &list.Items[i]})
		}
		for event := range watcher.ResultChan() {
			send(ctx, events, event)
		}
	}()
	return nil
}

func send(ctx context.Context, events chan<- watch.Event, event watch.Event) {
	select {
	case events <- event:
	case <-ctx.Done():
	}
}

// result turns the end of printProgress into the program's.
func (d *demo) result(end error) error {
	if errors.Is(end, errReady) {
		return nil
	}
	return end
}
