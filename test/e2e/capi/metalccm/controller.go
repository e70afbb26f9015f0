// SPDX-License-Identifier: Apache-2.0

package metalccm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
)

const (
	// period is how often metal-ccm asks for its health, and synchronizes labels and
	// announcements. It keeps machines as long.
	period = time.Minute
	// minimalPeriod is how long after a synchronization of labels a new Node does not
	// cause another one.
	minimalPeriod = 5 * time.Second
	// lookEvery is how often it is seen whether a period is over.
	lookEvery = 100 * time.Millisecond
	// maxFailures is how many failures of the health check end metal-ccm.
	maxFailures = 60
	// firstRetry and lastRetry are the times between attempts for a Node or a Service.
	// metal-ccm waits five seconds to five minutes for a Service, of which a test has no use.
	firstRetry, lastRetry = 50 * time.Millisecond, 5 * time.Second
)

// Options are those of a metal-ccm.
type Options struct {
	Environment Environment
	// Client is one of the workload cluster, with the rights of metal-ccm.
	Client kubernetes.Interface
	// Clock is that of periods.
	Clock clock.PassiveClock
	// Logf writes to the log.
	Logf func(format string, args ...any)
}

// Controller is one metal-ccm.
type Controller struct {
	Options

	cloud *cloud
	// There are two caches of machines: for Nodes, and for their labels.
	forNodes, forLabels *machineCache
	nodes               corelisters.NodeLister
	services            corelisters.ServiceLister
	nodeQueue           workqueue.TypedRateLimitingInterface[string]
	serviceQueue        workqueue.TypedRateLimitingInterface[string]
	machineUpdates      atomic.Int64

	mu            sync.Mutex // guards what follows
	labelsSynced  time.Time
	announcements Announcements
}

// New returns a metal-ccm that does nothing yet.
func New(o Options) (*Controller, error) {
	cloud, err := newCloud(o.Environment)
	if err != nil {
		return nil, err
	}
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[string]
	return &Controller{
		Options: o, cloud: cloud,
		forNodes: newMachineCache(o.Clock, cloud), forLabels: newMachineCache(o.Clock, cloud),
		nodeQueue:    workqueue.NewTypedRateLimitingQueue(limiter(firstRetry, lastRetry)),
		serviceQueue: workqueue.NewTypedRateLimitingQueue(limiter(firstRetry, lastRetry)),
	}, nil
}

// MachineUpdates counts the requests that would change a machine's tags: metal-ccm makes
// them if a machine has another cluster id than its own.
func (c *Controller) MachineUpdates() int { return int(c.machineUpdates.Load()) }

// Run runs until ctx ends. An error says why metal-ccm exits before.
func (c *Controller) Run(ctx context.Context) error {
	if err := c.cloud.health(ctx); err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(c.Client, 0)
	nodes, services := factory.Core().V1().Nodes(), factory.Core().V1().Services()
	c.nodes, c.services = nodes.Lister(), services.Lister()
	for informer, handlers := range map[cache.SharedIndexInformer][]cache.ResourceEventHandler{
		nodes.Informer():    {c.nodeHandler(), c.labelHandler(ctx)},
		services.Informer(): {c.serviceHandler()},
	} {
		for _, handler := range handlers {
			if _, err := informer.AddEventHandler(handler); err != nil {
				return err
			}
		}
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	for _, synced := range []cache.InformerSynced{nodes.Informer().HasSynced, services.Informer().HasSynced} {
		if !cache.WaitForCacheSync(ctx.Done(), synced) {
			return ctx.Err()
		}
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { c.work(ctx, "node", c.nodeQueue, c.syncNode) })
	running.Go(func() { c.work(ctx, "service", c.serviceQueue, c.syncService) })
	defer c.nodeQueue.ShutDown()
	defer c.serviceQueue.ShutDown()
	return c.keepHouse(ctx)
}

// work handles the keys of a queue until that is shut down.
func (c *Controller) work(ctx context.Context, kind string, queue workqueue.TypedRateLimitingInterface[string], handle func(context.Context, string) error) {
	for {
		key, ended := queue.Get()
		if ended {
			return
		}
		if err := handle(ctx, key); err != nil {
			c.Logf("error syncing %s %s: %v", kind, key, err)
			queue.AddRateLimited(key)
		} else {
			queue.Forget(key)
		}
		queue.Done(key)
	}
}

// keepHouse does what is due once a period, until ctx ends.
func (c *Controller) keepHouse(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var last time.Time
	failures := 0
	for {
		if now := c.Clock.Now(); now.Sub(last) >= period {
			last = now
			failures = c.countFailures(failures, c.cloud.health(ctx))
			if failures > maxFailures {
				return errors.New("metal-api was not healthy for too long")
			}
			if err := c.syncAnnouncements(ctx); err != nil {
				c.Logf("load balancer syncher failed: %v", err)
			}
			if err := c.syncLabels(ctx); err != nil {
				c.Logf("tags syncher failed: %v", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (c *Controller) countFailures(before int, err error) int {
	if err == nil {
		return 0
	}
	c.Logf("metal-api healthcheck failed: %v", err)
	return before + 1
}

// allNodes are those of the informer.
func (c *Controller) allNodes() ([]*corev1.Node, error) {
	list, err := c.nodes.List(everything)
	if err != nil {
		return nil, fmt.Errorf("failed to list nodes: %w", err)
	}
	return list, nil
}
