// SPDX-License-Identifier: Apache-2.0

package capi

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/test/e2e/capi/metalccm"
)

const (
	// metalCCM names the Deployment, and the Secret that its container refers to.
	metalCCM = "metal-ccm"
	// podEvery is how often it is seen whether a cluster has a Pod of metal-ccm to run, and
	// how soon one that exits is started again.
	podEvery = 500 * time.Millisecond
	// logLines is how many of the last lines of a log are kept.
	logLines = 100
)

// metalCCMPod plays the one Pod of the Deployment metal-ccm of a cluster: from when the
// Deployment and all that its Pod refers to are there, and anew when its template changes
// (kubectl rollout restart). Without them there is none.
type metalCCMPod struct {
	site    *Site
	cluster *workload
	ended   chan struct{}

	mu      sync.Mutex
	running *metalccm.Controller // nil if it does not run
	last    string
	log     []string
}

func (s *Site) runMetalCCM(ctx context.Context, c *workload) *metalCCMPod {
	pod := &metalCCMPod{site: s, cluster: c, ended: make(chan struct{})}
	go func() {
		defer close(pod.ended)
		pod.run(ctx)
		pod.report()
	}()
	return pod
}

// run plays the kubelet.
func (p *metalCCMPod) run(ctx context.Context) {
	var generation int64
	stop := func() {}
	exited := make(chan struct{})
	close(exited)
	defer func() {
		stop()
		<-exited
	}()
	tick := time.NewTicker(podEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		deployment, err := p.cluster.client.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, metalCCM, metav1.GetOptions{})
		if err != nil {
			continue // not yet
		}
		if generation == deployment.Generation {
			select {
			case <-exited:
			default:
				continue
			}
		}
		stop()
		<-exited
		ccm, err := p.create(ctx, &deployment.Spec.Template.Spec)
		if err != nil {
			p.logf("%v", err)
			continue
		}
		running, cancel := context.WithCancel(ctx)
		generation, stop, exited = deployment.Generation, cancel, make(chan struct{})
		p.set(ccm)
		go func(exited chan struct{}) {
			defer close(exited)
			if err := ccm.Run(running); err != nil && running.Err() == nil {
				p.logf("exits: %v", err)
			}
			p.check(ccm)
			p.set(nil)
		}(exited)
	}
}

// create makes a metal-ccm of what the Pod says, with the rights of its service account.
func (p *metalCCMPod) create(ctx context.Context, pod *corev1.PodSpec) (*metalccm.Controller, error) {
	container := &pod.Containers[0]
	variables := map[string]string{}
	for _, variable := range container.Env {
		value := variable.Value
		if from := variable.ValueFrom; from != nil {
			if from.SecretKeyRef == nil {
				return nil, fmt.Errorf("environment variable %s is from no Secret", variable.Name)
			}
			data, err := p.secretKey(ctx, from.SecretKeyRef.Name, from.SecretKeyRef.Key)
			if err != nil {
				return nil, err
			}
			value = string(data)
		}
		variables[variable.Name] = value
	}
	environment, err := metalccm.ReadEnvironment(variables, func(file string) ([]byte, error) { return p.readFile(ctx, pod, file) })
	if err != nil {
		return nil, err
	}
	token, err := p.cluster.client.CoreV1().ServiceAccounts(metav1.NamespaceSystem).CreateToken(ctx, pod.ServiceAccountName, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	config := rest.AnonymousClientConfig(p.cluster.Admin())
	config.BearerToken = token.Status.Token
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return metalccm.New(metalccm.Options{Environment: environment, Client: client, Clock: p.site.clock, Logf: p.logf})
}

func (p *metalCCMPod) secretKey(ctx context.Context, name, key string) ([]byte, error) {
	secret, err := p.cluster.client.CoreV1().Secrets(metav1.NamespaceSystem).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	value, found := secret.Data[key]
	if !found {
		return nil, fmt.Errorf("no key %s in Secret %s", key, name)
	}
	return value, nil
}

// readFile reads a file of a volume that is a Secret.
func (p *metalCCMPod) readFile(ctx context.Context, pod *corev1.PodSpec, file string) ([]byte, error) {
	for _, mount := range pod.Containers[0].VolumeMounts {
		if path.Dir(file) != path.Clean(mount.MountPath) {
			continue
		}
		for _, volume := range pod.Volumes {
			if volume.Name != mount.Name || volume.Secret == nil {
				continue
			}
			i := slices.IndexFunc(volume.Secret.Items, func(item corev1.KeyToPath) bool { return item.Path == path.Base(file) })
			if i >= 0 {
				return p.secretKey(ctx, volume.Secret.SecretName, volume.Secret.Items[i].Key)
			}
		}
	}
	return nil, fmt.Errorf("%s: no such file", file)
}

// check fails the test if metal-ccm would have changed a machine.
func (p *metalCCMPod) check(ccm *metalccm.Controller) {
	if n := ccm.MachineUpdates(); n > 0 {
		p.site.t.Errorf("metal-ccm at %s asked %d times for another cluster id of machines", p.cluster.endpoint, n)
	}
}

func (p *metalCCMPod) set(ccm *metalccm.Controller) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = ccm
}

// controller is the metal-ccm that runs.
func (p *metalCCMPod) controller() (*metalccm.Controller, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return nil, errors.New("metal-ccm does not run: " + strings.Join(p.log, "\n"))
	}
	return p.running, nil
}

func (p *metalCCMPod) logf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	line := fmt.Sprintf(format, args...)
	if line == p.last {
		return
	}
	p.last = line
	p.log = append(p.log, time.Now().Format(time.TimeOnly)+" "+line)
	p.log = p.log[max(0, len(p.log)-logLines):]
}

// report shows the log, if the test failed.
func (p *metalCCMPod) report() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.site.t.Failed() && len(p.log) > 0 {
		p.site.t.Logf("metal-ccm at %s:\n%s", p.cluster.endpoint, strings.Join(p.log, "\n"))
	}
}
