// SPDX-License-Identifier: Apache-2.0

package replica

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	clocktesting "k8s.io/utils/clock/testing"
)

func newFence() (*Fence, *clocktesting.FakeClock) {
	clock := clocktesting.NewFakeClock(time.Now())
	return &Fence{clock: clock, renewDeadline: 10 * time.Second, leaseDuration: 15 * time.Second, active: func() string { return "the-other" }}, clock
}

func TestFence_IsClosedUntilTheLeaseIsHeld(t *testing.T) {
	t.Parallel()
	f, _ := newFence()
	assert.ErrorIs(t, f.Check(), errStandby)
	assert.ErrorContains(t, f.Check(), `the active server is "the-other"`)
	assert.Error(t, f.CheckExclusive())
	assert.False(t, f.isExclusive())
}

func TestFence_ClosesAtRenewDeadlineAndIsUnsureAfterLeaseDuration(t *testing.T) {
	t.Parallel()
	f, clock := newFence()
	began := clock.Now()
	clock.Step(time.Second) // the renewal took a second
	assert.True(t, f.renew(began))
	assert.NoError(t, f.Check())
	clock.Step(9*time.Second - 1)
	assert.NoError(t, f.Check())
	assert.EqualValues(t, 1, f.remaining())
	clock.Step(1)
	assert.ErrorIs(t, f.Check(), errNoLongerActive, "counted from when the renewal began")
	assert.NoError(t, f.CheckExclusive(), "what had begun can end")
	clock.Step(5*time.Second - 1)
	assert.NoError(t, f.CheckExclusive())
	assert.True(t, f.isExclusive())
	clock.Step(1)
	assert.ErrorIs(t, f.CheckExclusive(), errNoLongerActive)
	assert.False(t, f.isExclusive())
}

func TestFence_StaysOpenWhileRenewed(t *testing.T) {
	t.Parallel()
	f, clock := newFence()
	for range 100 {
		assert.True(t, f.renew(clock.Now()))
		clock.Step(9 * time.Second)
		assert.NoError(t, f.Check())
	}
}

func TestFence_StaysClosedAfterItExpired(t *testing.T) {
	t.Parallel()
	f, clock := newFence()
	assert.True(t, f.renew(clock.Now()))
	clock.Step(12 * time.Second)
	assert.False(t, f.renew(clock.Now()), "the process is ending by now")
	assert.ErrorIs(t, f.Check(), errNoLongerActive)
	assert.Zero(t, f.remaining())
}

func TestFence_IgnoresRenewalAnsweredTooLate(t *testing.T) {
	t.Parallel()
	f, clock := newFence()
	began := clock.Now()
	clock.Step(10 * time.Second)
	assert.False(t, f.renew(began))
	assert.Error(t, f.Check())
	assert.True(t, f.renew(clock.Now()), "it was never open")
	assert.NoError(t, f.Check())
}

func TestFence_IsUnsureAfterShut(t *testing.T) {
	t.Parallel()
	f, clock := newFence()
	assert.True(t, f.renew(clock.Now()))
	f.Shut()
	assert.ErrorIs(t, f.Check(), errNoLongerActive)
	assert.ErrorIs(t, f.CheckExclusive(), errNoLongerActive)
	assert.True(t, f.isExclusive(), "the Lease can still be released")
	assert.False(t, f.renew(clock.Now()))
}
