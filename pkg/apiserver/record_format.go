// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

const (
	// ReasonRecordsNewer is the reason of an Event about the Lease: this server met
	// records of a newer format than it reads.
	ReasonRecordsNewer = "RecordsNewer"
	// standbyNoticeDelay is after how long every standby that cannot read the records
	// either is not ready any more: one that is ready has read them within
	// recordsReadTimeout, and is probed every few seconds.
	standbyNoticeDelay = recordsReadTimeout + 20*time.Second
	// standbyPollInterval is how often an active server that writes nothing any more
	// lists the others for one that could follow it.
	standbyPollInterval = 10 * time.Second
)

// recordFormatCheck is a check of /readyz. It fails for good when a record was met that
// only a newer server can read. An active server is still sent requests then: its
// Service publishes Pods that are not ready.
func (s *Server) recordFormatCheck() healthz.HealthChecker {
	return healthz.NamedCheck("record-format", func(*http.Request) error { return s.records.Check() })
}

// handleNewerRecords waits for a record that only a newer server can read. From then on
// nothing is written (ledger.Guarded), and nothing runs that only the active server
// runs. A standby leaves the election. The active server shows the last known state
// until it can hand over to a standby that reads the records.
func (s *Server) handleNewerRecords(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-s.records.Met():
	}
	err := s.records.Check()
	s.stopActive()
	r := s.extra.Replica
	if r == nil {
		return
	}
	if r.Events != nil {
		about := &corev1.ObjectReference{APIVersion: coordinationv1.SchemeGroupVersion.String(), Kind: "Lease", Namespace: r.Namespace, Name: r.Lease}
		r.Events.Eventf(about, nil, corev1.EventTypeWarning, ReasonRecordsNewer, "ReadRecords", "%s", oneline.Sanitize(fmt.Sprintf("Pod %q writes nothing any more: %v", r.Pod, err), oneline.MaxNote))
	}
	if !s.gate.isOpen() {
		limited, cancel := context.WithTimeout(ctx, resignTimeout)
		defer cancel()
		r.Resign(limited)
		klog.FromContext(ctx).Info("This server does not become active any more, and must be upgraded", "reason", err.Error())
		return
	}
	if wait.PollUntilContextCancel(ctx, standbyPollInterval, false, s.canHandOver(time.Now())) != nil {
		return
	}
	s.terminateRun(fmt.Errorf("handing over leadership to a server that can read the records: %w", err))
}

// canHandOver returns the condition that a standby is ready, long enough after records of
// a newer format were met.
func (s *Server) canHandOver(met time.Time) wait.ConditionWithContextFunc {
	return func(ctx context.Context) (bool, error) {
		return time.Since(met) >= standbyNoticeDelay && s.extra.Replica.HasReadyStandby(ctx), nil
	}
}

// activateBindings returns when the bindings are reconciled by this server as the active
// one, or with an error when records were met that it cannot read.
func (s *Server) activateBindings(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-s.records.Met():
			cancel(s.records.Check())
		case <-ctx.Done():
		}
	}()
	return s.extra.Namespaces.Activate(ctx)
}
