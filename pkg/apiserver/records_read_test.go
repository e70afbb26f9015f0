// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

// failingLedger is a ledger that answers no list while it fails, or is hanging.
type failingLedger struct {
	ledger.Ledger
	fails, hangs atomic.Bool
}

func (l *failingLedger) List(ctx context.Context) ([]ledger.Record, error) {
	if l.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if l.fails.Load() {
		return nil, errUnreadable
	}
	return l.Ledger.List(ctx)
}

// newStandby returns a standby that waits for the Lease of the Pod "active".
func newStandby(t *testing.T) (*formatFixture, *failingLedger) {
	t.Helper()
	flaky := &failingLedger{}
	f := newFormatFixtureOver(t, func(l ledger.Ledger) ledger.Ledger {
		flaky.Ledger = l
		return flaky
	})
	now := metav1.NowMicro()
	_, err := f.client.CoordinationV1().Leases(replicaNamespace).Create(t.Context(), &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: replicaNamespace, Name: "lease"},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To("active"), AcquireTime: &now, RenewTime: &now, LeaseDurationSeconds: ptr.To[int32](24 * 60 * 60),
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.Error(t, f.recordsReadCheck().Check(&http.Request{}), "it has read nothing yet")
	go f.handleNewerRecords(t.Context())
	go f.runLeaderElection(t.Context())
	synctest.Wait()
	require.NoError(t, f.recordsReadCheck().Check(&http.Request{}))
	return f, flaky
}

func TestRecordsReadCheck_StandbyThatCannotReadIsNotReady(t *testing.T) {
	for name, broken := range map[string]func(*failingLedger) *atomic.Bool{
		"because reads fail": func(l *failingLedger) *atomic.Bool { return &l.fails },
		"because one hangs":  func(l *failingLedger) *atomic.Bool { return &l.hangs },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, flaky := newStandby(t)
				time.Sleep(10 * time.Minute)
				require.NoError(t, f.recordsReadCheck().Check(&http.Request{}))
				broken(flaky).Store(true)
				time.Sleep(recordsReadTimeout + time.Second)
				require.ErrorContains(t, f.recordsReadCheck().Check(&http.Request{}), "this standby cannot become active")
				require.NoError(t, f.recordFormatCheck().Check(&http.Request{}), "it knows of no newer record")
			})
		})
	}
}

func TestRecordsReadCheck_StandbyIsReadyAfterOneFailureAndWhenItReadsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, flaky := newStandby(t)
		flaky.fails.Store(true)
		for range 35 {
			time.Sleep(time.Second)
			require.NoError(t, f.recordsReadCheck().Check(&http.Request{}))
		}
		flaky.fails.Store(false)
		for range 120 {
			time.Sleep(time.Second)
			require.NoError(t, f.recordsReadCheck().Check(&http.Request{}))
		}
		flaky.fails.Store(true)
		time.Sleep(5 * time.Minute)
		require.Error(t, f.recordsReadCheck().Check(&http.Request{}))
		flaky.fails.Store(false)
		time.Sleep(preloadInterval)
		synctest.Wait()
		require.NoError(t, f.recordsReadCheck().Check(&http.Request{}))
	})
}

// A standby reads the records while it waits for the metal-api, too, and is ready as soon as that
// was observed.
func TestRecordsReadCheck_StandbyReadsWhileItWaitsForMetal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFormatFixture(t)
		f.ready = &readiness{sweeps: neverSynced{}}
		go f.runLeaderElection(t.Context())
		for range 10 {
			time.Sleep(time.Minute)
			require.NoError(t, f.recordsReadCheck().Check(&http.Request{}))
		}
	})
}

// neverSynced is an observer that the metal-api does not answer.
type neverSynced struct{}

func (neverSynced) HasSynced() bool          { return false }
func (neverSynced) Staleness() time.Duration { return time.Minute }

func TestRecordsReadCheck_ActiveServerNeedNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFormatFixture(t)
		f.gate.advance(gateOpen)
		require.NoError(t, f.recordsReadCheck().Check(&http.Request{}))
	})
}

// When an active server that met newer records hands over to a ready standby, that has read them
// since, or it would be not ready by then, and kubelet would have noticed.
func TestStandbyNoticeDelay_OutlastsReadinessOfStandbyThatCannotRead(t *testing.T) {
	const probeDelay = 15 * time.Second
	for offset := time.Duration(0); offset < preloadInterval; offset += 6 * time.Second {
		synctest.Test(t, func(t *testing.T) {
			f, flaky := newStandby(t)
			time.Sleep(preloadInterval + offset)
			flaky.fails.Store(true)
			time.Sleep(standbyNoticeDelay - probeDelay)
			require.Error(t, f.recordsReadCheck().Check(&http.Request{}), "%s after a read", offset)
		})
	}
}
