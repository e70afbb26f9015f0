// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/recordformat"
)

const (
	// standbyBudgetFraction is the fraction of the polling budget that a standby
	// has; the active server has the rest, so that two replicas cost no more than one.
	standbyBudgetFraction = 0.2
	// preloadInterval is how often a standby reads the ledger.
	preloadInterval = 30 * time.Second
	// recordsReadTimeout is how long ago a ready standby has read the ledger at the most.
	// One read may fail.
	recordsReadTimeout = 2*preloadInterval + 10*time.Second
	// resyncDelay is how long after the failover the ledger is read again. A write
	// that a predecessor had in flight has arrived by then, or never will.
	resyncDelay = 2 * time.Minute

	// writeDrainTimeout limits the wait for in-flight writes at a stop, resignTimeout
	// that for the release of the Lease, and successorTimeout that for another server
	// to become active. Requests are paused for no longer than their sum.
	writeDrainTimeout = 10 * time.Second
	resignTimeout     = 5 * time.Second
	successorTimeout  = 15 * time.Second
)

// runLeaderElection waits for the initial sync, and then serves: at once if this
// server is the only one, or else when it has acquired the Lease.
func (s *Server) runLeaderElection(ctx context.Context) {
	if s.extra.Replica != nil {
		// The observer observes meanwhile.
		if err := s.readRecords(ctx); err != nil && !recordformat.IsNewer(err) {
			if ctx.Err() == nil {
				s.terminate(err)
			}
			return
		}
		close(s.preloaded)
	}
	preloads, stop := context.WithCancel(ctx)
	defer stop()
	if s.extra.Replica != nil {
		go func() {
			_ = wait.PollUntilContextCancel(preloads, preloadInterval, false, func(ctx context.Context) (bool, error) {
				return recordformat.IsNewer(s.preloadRecords(ctx)), nil
			})
		}()
	}
	isReady := func(context.Context) (bool, error) { return s.ready.ready(), nil }
	if wait.PollUntilContextCancel(ctx, readyInterval, true, isReady) != nil {
		return
	}
	if s.extra.Replica == nil {
		s.protocol.BecomeActive()
		s.gate.advance(gateOpen)
		s.runActive(ctx)
		return
	}
	err := s.extra.Replica.Run(ctx, func(ctx context.Context) {
		stop()
		if err := s.becomeActive(ctx); err != nil && ctx.Err() == nil && s.records.Check() == nil {
			s.terminate(fmt.Errorf("failed to become the active server: %w", err))
		}
	})
	if err != nil {
		s.terminate(err)
	}
}

// preloadRecords reads the ledger for a standby.
func (s *Server) preloadRecords(ctx context.Context) error {
	err := s.readRecords(ctx)
	if err != nil && ctx.Err() == nil && !recordformat.IsNewer(err) {
		klog.FromContext(ctx).Error(err, "Failed to read records: this standby cannot become active until that succeeds")
	}
	return err
}

// readRecords reads the ledger, and notes when.
func (s *Server) readRecords(ctx context.Context) error {
	began := time.Now()
	err := s.backend.Preload(ctx)
	if err == nil {
		s.recordsRead.Store(&began)
	}
	return err
}

// becomeActive makes this server the active one, until ctx ends.
func (s *Server) becomeActive(ctx context.Context) error {
	s.observer.SetBudget(s.extra.Observer.Budget * (1 - standbyBudgetFraction))
	if err := s.backend.Start(ctx); err != nil {
		return err
	}
	// What the predecessor has shown must not be followed by an older observation of
	// this server.
	if err := s.observer.RefreshAll(ctx); err != nil {
		klog.FromContext(ctx).Info("Continuing with observations from before the failover", "err", err)
	}
	if s.extra.Namespaces != nil {
		if err := s.activateBindings(ctx); err != nil {
			return err
		}
	}
	if err := s.records.Check(); err != nil {
		return err
	}
	s.protocol.BecomeActive()
	if !s.gate.advance(gateOpen) {
		return nil // the server is stopping
	}
	s.extra.Replica.RecordFailover()
	go s.extra.Replica.MaintainLabels(ctx)
	go s.resyncRecords(ctx)
	s.runActive(ctx)
	return nil
}

// resyncRecords reads the ledger again, for writes of a predecessor that arrived
// after it was read first.
func (s *Server) resyncRecords(ctx context.Context) {
	timer := time.NewTimer(resyncDelay)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
	}
	_ = wait.PollUntilContextCancel(ctx, preloadInterval, true, func(ctx context.Context) (bool, error) {
		err := s.backend.Resync(ctx)
		if recordformat.IsNewer(err) {
			return true, nil
		}
		if err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Failed to recheck records: retrying")
		}
		return err == nil, nil
	})
}

// runActive starts what only the active server runs, until ctx ends or the server
// begins to stop.
func (s *Server) runActive(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(s.active, cancel)
	go s.recoverer.Run(ctx)
	if s.extra.Registrar != nil {
		go s.extra.Registrar.Run(ctx, s.firewallsReader)
	}
	for _, role := range s.extra.ManagerRoles {
		go role.Run(ctx)
	}
	if s.extra.AdmissionPolicies != nil {
		go s.extra.AdmissionPolicies.Run(ctx)
	}
}

// terminate ends a server that must not continue: no request is answered any
// more, while calls of the metal-api in flight are drained.
func (s *Server) terminate(err error) {
	s.stopServing()
	s.terminateRun(err)
}

// stopServing refuses requests for objects, and ends watches.
func (s *Server) stopServing() {
	s.gate.advance(gateTerminated)
	s.backend.Stop()
}

// shutDown runs between the termination signal and the end of the server: it drains
// allocations, and hands leadership over.
func (s *Server) shutDown() {
	ctx, cancel := context.WithTimeout(context.Background(), s.extra.AllocationDrainTimeout)
	defer cancel()
	s.stopActive()
	if err := s.protocol.Shutdown(ctx); err != nil {
		klog.Background().Info("Timed out waiting for in-flight allocations: they are resumed on the next start", "err", err)
	}
	if s.extra.Replica != nil {
		s.handOverLeadership()
	}
}

// handOverLeadership lets another server become active. Until one has, requests are
// paused: then all writes are in the ledger, and no more begin.
func (s *Server) handOverLeadership() {
	logger := klog.Background()
	r := s.extra.Replica
	limited := func(limit time.Duration, do func(context.Context)) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		do(ctx)
	}
	if !s.gate.advance(gatePaused) || r.Fence().Check() != nil {
		limited(resignTimeout, r.Resign)
		s.stopServing()
		return
	}
	began := time.Now()
	limited(writeDrainTimeout, func(ctx context.Context) {
		if err := s.gate.drain(ctx); err != nil {
			logger.Info("Timed out draining in-flight writes: their clients get an unknown outcome", "err", err)
		}
	})
	limited(resignTimeout, r.Resign)
	followed := false
	limited(successorTimeout, func(ctx context.Context) { followed = r.AwaitSuccessor(ctx) })
	r.RecordHandover(began)
	s.stopServing()
	logger.Info("Handed over leadership", "successor", followed, "requestsPaused", time.Since(began))
	if followed {
		// Connections may be routed here until the whole cluster knows the successor.
		time.Sleep(s.extra.HandoverGracePeriod)
	}
}
