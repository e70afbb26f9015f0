package apiserver

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"
)

const (
	// standbyShare is the part of the budget of looks that a server has which
	// stands by; the active one has the rest. So two cost no more than one.
	standbyShare = 0.2
	// surveyInterval is how often a server that stands by reads the ledger.
	surveyInterval = 30 * time.Second
	// secondLook is how long after the start the ledger is read once more. A write
	// that a predecessor had begun has arrived by then, or never will.
	secondLook = 2 * time.Minute

	// drainLimit is how long writes may take that are under way at a stop;
	// resignLimit, to give the Lease back; and successorLimit, until another
	// server answers. Requests wait for so long at most.
	drainLimit     = 10 * time.Second
	resignLimit    = 5 * time.Second
	successorLimit = 15 * time.Second
)

// live waits until metal was looked at, and then answers: at once if this server
// is the only one, or else when it has won the Lease.
func (s *Server) live(ctx context.Context) {
	isReady := func(context.Context) (bool, error) { return s.ready.ready(), nil }
	if wait.PollUntilContextCancel(ctx, readyInterval, true, isReady) != nil {
		return
	}
	if s.extra.Replica == nil {
		s.gate.become(gateOpen)
		s.work(ctx)
		return
	}
	surveys, stop := context.WithCancel(ctx)
	defer stop()
	go wait.UntilWithContext(surveys, s.survey, surveyInterval)
	err := s.extra.Replica.Run(ctx, func(ctx context.Context) {
		stop()
		if err := s.takeOver(ctx); err != nil && ctx.Err() == nil {
			s.fail(fmt.Errorf("cannot become the active server: %w", err))
		}
	})
	if err != nil {
		s.fail(err)
	}
}

// survey reads the ledger for a server that stands by.
func (s *Server) survey(ctx context.Context) {
	if err := s.backend.Preload(ctx); err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "Cannot read the records; this server stands by, and could not become the active one now")
	}
}

// takeOver makes this server the one that answers, until ctx ends.
func (s *Server) takeOver(ctx context.Context) error {
	s.observer.SetBudget(s.extra.Observer.Budget * (1 - standbyShare))
	if err := s.backend.Start(ctx); err != nil {
		return err
	}
	// What the predecessor showed must not be followed by what was known here
	// before it.
	if err := s.observer.CatchUp(ctx); err != nil {
		klog.FromContext(ctx).Info("Going on with what was seen of metal before", "reason", err.Error())
	}
	if s.extra.Namespaces != nil {
		if err := s.extra.Namespaces.Lead(ctx); err != nil {
			return err
		}
	}
	if !s.gate.become(gateOpen) {
		return nil // the server is stopping
	}
	s.extra.Replica.TookOver()
	go s.extra.Replica.Announce(ctx)
	go s.lookAgain(ctx)
	s.work(ctx)
	return nil
}

// lookAgain looks for what a predecessor wrote after this server had read.
func (s *Server) lookAgain(ctx context.Context) {
	timer := time.NewTimer(secondLook)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
	}
	_ = wait.PollUntilContextCancel(ctx, surveyInterval, true, func(ctx context.Context) (bool, error) {
		err := s.backend.Resync(ctx)
		if err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Cannot read the records a second time; trying again")
		}
		return err == nil, nil
	})
}

// work does what only the active server does, until ctx ends or the server
// begins to stop.
func (s *Server) work(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(s.working, cancel)
	go s.recoverer.Run(ctx)
	if s.extra.Registrar != nil {
		go s.extra.Registrar.Run(ctx)
	}
	if s.extra.BootstrapData != nil {
		go s.extra.BootstrapData.Run(ctx)
	}
	if s.extra.AdmissionPolicies != nil {
		go s.extra.AdmissionPolicies.Run(ctx)
	}
}

// fail ends a server that must not go on: nothing is answered any more, and what
// is under way in the metal-api gets its time.
func (s *Server) fail(err error) {
	s.shut()
	s.end(err)
}

// shut ends all that a server does for others.
func (s *Server) shut() {
	s.gate.become(gateShut)
	s.backend.Stop()
}

// leave is what a server does between the signal to stop and its end.
func (s *Server) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), s.extra.AllocationDrainTimeout)
	defer cancel()
	s.stopWork()
	if err := s.protocol.Shutdown(ctx); err != nil {
		klog.Background().Info("Allocations are still under way; the next start goes on with them", "reason", err)
	}
	if s.extra.Replica != nil {
		s.handOver()
	}
}

// handOver lets another server answer in this one's place. In between, requests
// wait: by then all writes are in the ledger, and none is begun any more.
func (s *Server) handOver() {
	logger := klog.Background()
	r := s.extra.Replica
	limited := func(limit time.Duration, do func(context.Context)) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		do(ctx)
	}
	if !s.gate.become(gateHeld) || r.Fence().Check() != nil {
		limited(resignLimit, r.Resign)
		s.shut()
		return
	}
	began := time.Now()
	limited(drainLimit, func(ctx context.Context) {
		if err := s.gate.drain(ctx); err != nil {
			logger.Info("Writes are still under way; whether they were done is not told to who asked for them", "reason", err)
		}
	})
	limited(resignLimit, r.Resign)
	followed := false
	limited(successorLimit, func(ctx context.Context) { followed = r.AwaitSuccessor(ctx) })
	r.HandedOver(began)
	s.shut()
	logger.Info("Handed over", "toAnother", followed, "requestsWaited", time.Since(began))
	if followed {
		// Connections may be led here until the whole cluster knows.
		time.Sleep(s.extra.HandoverGracePeriod)
	}
}
