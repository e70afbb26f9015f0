package replica

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	clocktesting "k8s.io/utils/clock/testing"
)

func newFence() (*Fence, *clocktesting.FakeClock) {
	clock := clocktesting.NewFakeClock(time.Now())
	return &Fence{clock: clock, begin: 10 * time.Second, sure: 15 * time.Second, active: func() string { return "the-other" }}, clock
}

func TestAFenceIsShutUntilTheLeaseIsHeld(t *testing.T) {
	t.Parallel()
	f, _ := newFence()
	assert.ErrorIs(t, f.Check(), errNeverHeld)
	assert.ErrorContains(t, f.Check(), "the-other is")
	assert.Error(t, f.CheckExclusive())
	assert.False(t, f.holds())
}

func TestNothingBeginsAfterTheRenewDeadlineAndNothingIsSureAfterTheLease(t *testing.T) {
	t.Parallel()
	f, clock := newFence()
	began := clock.Now()
	clock.Step(time.Second) // the renewal took a second
	assert.True(t, f.renew(began))
	assert.NoError(t, f.Check())
	clock.Step(9*time.Second - 1)
	assert.NoError(t, f.Check())
	assert.EqualValues(t, 1, f.left())
	clock.Step(1)
	assert.ErrorIs(t, f.Check(), errShut, "counted from when the renewal began")
	assert.NoError(t, f.CheckExclusive(), "what had begun can end")
	clock.Step(5*time.Second - 1)
	assert.NoError(t, f.CheckExclusive())
	assert.True(t, f.holds())
	clock.Step(1)
	assert.ErrorIs(t, f.CheckExclusive(), errShut)
	assert.False(t, f.holds())
}

func TestRenewalsKeepAFenceOpen(t *testing.T) {
	t.Parallel()
	f, clock := newFence()
	for range 100 {
		assert.True(t, f.renew(clock.Now()))
		clock.Step(9 * time.Second)
		assert.NoError(t, f.Check())
	}
}

func TestAFenceThatLapsedStaysShut(t *testing.T) {
	t.Parallel()
	f, clock := newFence()
	assert.True(t, f.renew(clock.Now()))
	clock.Step(12 * time.Second)
	assert.False(t, f.renew(clock.Now()), "the process is ending by now")
	assert.ErrorIs(t, f.Check(), errShut)
	assert.Zero(t, f.left())
}

func TestARenewalWhoseAnswerCameTooLateDoesNotCount(t *testing.T) {
	t.Parallel()
	f, clock := newFence()
	began := clock.Now()
	clock.Step(10 * time.Second)
	assert.False(t, f.renew(began))
	assert.Error(t, f.Check())
	assert.True(t, f.renew(clock.Now()), "it was never open")
	assert.NoError(t, f.Check())
}

func TestAFenceThatWasShutIsNotSureOfAnything(t *testing.T) {
	t.Parallel()
	f, clock := newFence()
	assert.True(t, f.renew(clock.Now()))
	f.Shut()
	assert.ErrorIs(t, f.Check(), errShut)
	assert.ErrorIs(t, f.CheckExclusive(), errShut)
	assert.True(t, f.holds(), "the Lease is there to be given back")
	assert.False(t, f.renew(clock.Now()))
}
