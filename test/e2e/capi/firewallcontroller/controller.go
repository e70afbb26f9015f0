// SPDX-License-Identifier: Apache-2.0

package firewallcontroller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

const (
	// KubeconfigPath is where the user data write the kubeconfig of the management cluster.
	KubeconfigPath = "/etc/firewall-controller/.seed-kubeconfig"
	// seedInterval is how often the Firewall is acted on without a change.
	seedInterval = 3 * time.Minute
	// syncLimit is how long caches may take, before the firewall-controller ends.
	syncLimit = 30 * time.Second
	// retryAfter is how soon a run that failed is repeated.
	retryAfter = 200 * time.Millisecond
)

// ErrUpdated ends a firewall-controller that has installed another version of itself.
var ErrUpdated = errors.New("another version of firewall-controller is installed")

// Options are those of a firewall-controller.
type Options struct {
	// Kubeconfig is what is at KubeconfigPath.
	Kubeconfig []byte
	// Hostname is that of the machine.
	Hostname string
	// Host is the machine.
	Host *Host
	// Interval is how often rules are made without a change, and how often is reported: 10s
	// if it is zero. As in the real one, the interval of the Firewall has no effect.
	Interval time.Duration
	// TokenInterval is how often the token is read: 5m if it is zero.
	TokenInterval time.Duration
	// NoDistance is set for a version that knows of no distances, as the newest does not.
	NoDistance bool
	// Proxy is that of requests to the workload cluster.
	Proxy func(*http.Request) (*url.URL, error)
	// Clock is that of reports.
	Clock clock.PassiveClock
	// Logf writes to the log.
	Logf func(format string, args ...any)
}

// Controller is one firewall-controller.
type Controller struct {
	Options

	seed  *seed
	shoot *shoot
	// seedDue, shootDue and reportDue have an element if a run is due.
	seedDue, shootDue, reportDue chan struct{}
	firewalls                    cache.GenericLister
	policies, services           cache.GenericLister
	seedRun                      metav1.Time
}

// New returns a firewall-controller that does nothing yet.
func New(o Options) *Controller {
	if o.Interval == 0 {
		o.Interval = 10 * time.Second
	}
	if o.TokenInterval == 0 {
		o.TokenInterval = 5 * time.Minute
	}
	return &Controller{Options: o, seedDue: make(chan struct{}, 1), shootDue: make(chan struct{}, 1), reportDue: make(chan struct{}, 1)}
}

// Run runs until ctx ends. An error says why the firewall-controller exits before: systemd
// starts it again.
func (c *Controller) Run(ctx context.Context) (err error) {
	if c.seed, err = openSeed(c.Kubeconfig); err != nil {
		return err
	}
	f, err := c.seed.firewall(ctx, c.Hostname)
	if err != nil {
		return err
	}
	if c.shoot, err = c.openShoot(ctx, f.Status.ShootAccess); err != nil {
		return err
	}
	if err := c.update(f); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { c.renewToken(ctx) })
	stop, err := c.startCaches(ctx)
	defer func() {
		cancel()
		stop()
		running.Wait()
	}()
	if err != nil {
		return err
	}
	return c.loop(ctx)
}

// startCaches fills the caches that runs read, and others that the real one has: it needs
// the rights for them.
func (c *Controller) startCaches(ctx context.Context) (stop func(), err error) {
	inSeed := dynamicinformer.NewFilteredDynamicSharedInformerFactory(c.seed.objects, 0, c.seed.namespace, nil)
	inShoot := dynamicinformer.NewDynamicSharedInformerFactory(c.shoot.objects, 0)
	stop = func() {
		inSeed.Shutdown()
		inShoot.Shutdown()
	}
	core := func(resource string) schema.GroupVersionResource {
		return corev1.SchemeGroupVersion.WithResource(resource)
	}
	var synced []cache.InformerSynced
	for _, source := range []struct {
		factory  dynamicinformer.DynamicSharedInformerFactory
		resource schema.GroupVersionResource
		lister   *cache.GenericLister
		handler  cache.ResourceEventHandler
	}{
		{inSeed, Firewalls, &c.firewalls, c.onGeneration(c.Hostname, c.seedDue)},
		{inShoot, Policies, &c.policies, c.onGeneration("", c.shootDue)},
		{inShoot, core("services"), &c.services, onAny(c.shootDue)},
		{inShoot, Monitors, nil, cache.ResourceEventHandlerFuncs{AddFunc: func(any) { due(c.reportDue) }}},
		{inShoot, core("pods"), nil, nil},
		{inShoot, core("secrets"), nil, nil},
	} {
		informer := source.factory.ForResource(source.resource)
		if source.lister != nil {
			*source.lister = informer.Lister()
		}
		err := informer.Informer().SetWatchErrorHandler(func(_ *cache.Reflector, err error) { c.Logf("cache of %s: %v", source.resource.Resource, err) })
		if err != nil {
			return stop, err
		}
		if source.handler != nil {
			if _, err := informer.Informer().AddEventHandler(source.handler); err != nil {
				return stop, err
			}
		}
		synced = append(synced, informer.Informer().HasSynced)
	}
	inSeed.Start(ctx.Done())
	inShoot.Start(ctx.Done())
	limited, cancel := context.WithTimeout(ctx, syncLimit)
	defer cancel()
	if !cache.WaitForCacheSync(limited.Done(), synced...) {
		return stop, errors.New("failed to wait for caches to sync")
	}
	return stop, nil
}

// onGeneration has a run when an object comes, goes or has another generation.
func (c *Controller) onGeneration(name string, queue chan struct{}) cache.ResourceEventHandler {
	mine := func(obj any) (generation int64, mine bool) {
		if deleted, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = deleted.Obj
		}
		o, ok := obj.(metav1.Object)
		if !ok || name != "" && o.GetName() != name {
			return 0, false
		}
		return o.GetGeneration(), true
	}
	one := func(obj any) {
		if _, mine := mine(obj); mine {
			due(queue)
		}
	}
	return cache.ResourceEventHandlerFuncs{AddFunc: one, DeleteFunc: one, UpdateFunc: func(old, obj any) {
		before, _ := mine(old)
		if now, mine := mine(obj); mine && now != before {
			due(queue)
		}
	}}
}

func onAny(queue chan struct{}) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { due(queue) }, DeleteFunc: func(any) { due(queue) }, UpdateFunc: func(any, any) { due(queue) },
	}
}

func due(queue chan struct{}) {
	select {
	case queue <- struct{}{}:
	default:
	}
}

// loop does what is due, until ctx ends or another version is installed.
func (c *Controller) loop(ctx context.Context) error {
	seedTick, tick := time.NewTicker(seedInterval), time.NewTicker(c.Interval)
	defer seedTick.Stop()
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-seedTick.C:
			due(c.seedDue)
		case <-tick.C:
			due(c.shootDue)
			due(c.reportDue)
		case <-c.seedDue:
			if err := c.attempt(ctx, "firewall", c.seedDue, c.runSeed); errors.Is(err, ErrUpdated) {
				return err
			}
		case <-c.shootDue:
			err := c.attempt(ctx, "rules", c.shootDue, c.runShoot)
			if err != nil {
				c.Host.change(func(s *HostState) { s.Failed = err.Error() })
			}
		case <-c.reportDue:
			_ = c.attempt(ctx, "monitor", c.reportDue, c.report)
		}
	}
}

// attempt makes a run, and repeats it later if it fails.
func (c *Controller) attempt(ctx context.Context, what string, queue chan struct{}, run func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, syncLimit)
	defer cancel()
	err := run(limited)
	if err != nil && ctx.Err() == nil {
		c.Logf("%s: %v", what, err)
		time.AfterFunc(retryAfter, func() { due(queue) })
	}
	return err
}

// renewToken reads the token again and again. What cannot be read changes nothing.
func (c *Controller) renewToken(ctx context.Context) {
	tick := time.NewTicker(c.TokenInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := c.readToken(ctx, c.shoot); err != nil && ctx.Err() == nil {
				c.Logf("unable to read token secret: %v", err)
			}
		}
	}
}

// update installs the versions that the Firewall names.
func (c *Controller) update(f *Firewall) error {
	if f.Spec.NftablesExporterVersion != "" {
		if err := checkURL(f.Spec.NftablesExporterURL); err != nil {
			return err
		}
		c.Host.change(func(s *HostState) { s.Exporter = f.Spec.NftablesExporterVersion })
	}
	if f.Spec.ControllerVersion == "" || f.Spec.ControllerVersion == c.Host.Version() {
		return nil
	}
	if err := checkURL(f.Spec.ControllerURL); err != nil {
		return err
	}
	c.Host.install(f.Spec.ControllerVersion)
	return fmt.Errorf("%w: %s", ErrUpdated, f.Spec.ControllerVersion)
}

func checkURL(text string) error {
	if u, err := url.Parse(text); err != nil || u.Host == "" {
		return errors.New("could not download binary or checksum")
	}
	return nil
}
