// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilwait "k8s.io/apimachinery/pkg/util/wait"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

const (
	// servedPollInterval is how often to look for APIs that are not there.
	servedPollInterval = 3 * time.Second
	// notServedLogInterval is how often to say so.
	notServedLogInterval = time.Minute
)

// setupRunnable adds the reconcilers to a manager as soon as the APIs that they need
// are served. Until then the process is alive and not ready, and says what it
// lacks, where a manager by itself would end after minutes, again and again.
type setupRunnable struct {
	mgr     ctrl.Manager
	options Options
	// notReady is what there is to complain about; nil after the reconcilers were
	// added.
	notReady atomic.Pointer[error]
}

var (
	_ manager.Runnable               = &setupRunnable{}
	_ manager.LeaderElectionRunnable = &setupRunnable{}
	_ healthz.Checker                = (&setupRunnable{}).ready
)

// AddWhenServed adds the reconcilers of all kinds to a manager, which has
// NewScheme's, as soon as the APIs that they need are served, and a check of
// readiness that fails until then.
func AddWhenServed(mgr ctrl.Manager, options Options) error {
	s := &setupRunnable{mgr: mgr, options: options}
	starting := errors.New("starting")
	s.notReady.Store(&starting)
	if err := mgr.AddReadyzCheck("served-apis", s.ready); err != nil {
		return err
	}
	return mgr.Add(s)
}

// Start implements manager.Runnable.
func (s *setupRunnable) Start(ctx context.Context) error {
	log := ctrl.LoggerFrom(ctx).WithName("served-apis")
	var lastLogged time.Time
	err := utilwait.PollUntilContextCancel(ctx, servedPollInterval, true, func(context.Context) (bool, error) {
		err := checkServed(s.mgr.GetRESTMapper(), s.options)
		if err == nil {
			return true, nil
		}
		s.notReady.Store(&err)
		if now := time.Now(); now.Sub(lastLogged) >= notServedLogInterval {
			lastLogged = now
			log.Error(err, "Waiting for required APIs")
		}
		return false, nil
	})
	if err != nil {
		// The process ends.
		return nil
	}
	if err := Setup(s.mgr, s.options); err != nil {
		return err
	}
	s.notReady.Store(nil)
	log.Info("All required APIs are served")
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: a replica that
// waits for its turn is ready, too. The reconcilers themselves wait for it.
func (s *setupRunnable) NeedLeaderElection() bool { return false }

func (s *setupRunnable) ready(*http.Request) error {
	if lacks := s.notReady.Load(); lacks != nil {
		return *lacks
	}
	return nil
}

// checkServed returns what is not served of the APIs that the reconcilers need.
func checkServed(mapper meta.RESTMapper, options Options) error {
	need := func(gvk schema.GroupVersionKind, advice string) error {
		_, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
		if meta.IsNoMatchError(err) {
			return fmt.Errorf("%s %s is not served: %s", gvk.GroupVersion(), gvk.Kind, advice)
		}
		if err != nil {
			return fmt.Errorf("failed to check whether %s %s is served: %w", gvk.GroupVersion(), gvk.Kind, err)
		}
		return nil
	}
	var errs []error
	for _, k := range metalKinds {
		errs = append(errs, need(v1alpha4.SchemeGroupVersion.WithKind(k.kind),
			"metalstack-apiserver must run, and its APIService be available (kubectl get apiservices)"))
	}
	if !options.Standalone {
		errs = append(errs, need(v1alpha4.SchemeGroupVersion.WithKind("MetalStackRemediation"),
			"metalstack-apiserver must be of the same version as this process"))
		for _, kind := range []string{"Cluster", "Machine"} {
			errs = append(errs, need(clusterv1.GroupVersion.WithKind(kind),
				"Cluster API v1.11 or later must be installed (clusterctl init), or this process be started with --standalone"))
		}
	}
	return errors.Join(errs...)
}
