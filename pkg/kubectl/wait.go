// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
)

// The goals of wait.
const (
	forPhonedHome = "phoned-home"
	forReady      = "ready"
	forReleased   = "released"
	forPowerOff   = "power=off"
	forPowerOn    = "power=on"
)

var goals = []string{forPhonedHome, forReady, forReleased, forPowerOff, forPowerOn}

const (
	defaultWaitTimeout = 15 * time.Minute
	// powerInterval is how often the power state is read, which no watch shows.
	powerInterval = 10 * time.Second
)

func newWait(s *session) *cobra.Command {
	var t target
	var goal string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait NAME --for=GOAL",
		Short: "Wait until a machine has phoned home, is ready, is released, or is off",
		Long: `Wait until a machine reaches a goal:

  phoned-home  its operating system has reported, after the power action or reinstallation that was requested last;
               after "power on", which does nothing if it is on, also if it is ready and reported to be on
  ready        its condition Ready is True
  released     its object is gone, or its metal was released
  power=off    its controller (BMC) has reported that it is off, after the power action that was requested last
  power=on     likewise, that it is on`,
		Example: "  kubectl metal wait worker-1 --for=phoned-home\n  kubectl metal wait worker-1 --for=power=off --timeout=10m",
	}
	t.addTo(s, cmd)
	cmd.Flags().StringVar(&goal, "for", "", "The goal: "+strings.Join(goals, ", ")+". It is required.")
	cmd.Flags().DurationVar(&timeout, "timeout", defaultWaitTimeout, "How long to wait.")
	cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(goals, cobra.ShellCompDirectiveNoFileComp)) //nolint:errcheck // The flag exists.
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(goals, goal) {
			return usageError(cmd, fmt.Errorf("--for=%q: must be one of %s", goal, strings.Join(goals, ", ")))
		}
		client, ref, err := t.on(s, args)
		if err != nil {
			return err
		}
		w := &waiter{session: s, client: client, ref: ref, goal: goal, timeout: timeout}
		return w.wait(cmd.Context())
	}
	return cmd
}

// waiter waits until an object reaches a goal.
type waiter struct {
	*session
	client  *fleet.Client
	ref     fleet.Reference
	goal    string
	timeout time.Duration
	// state is what was seen last, as one line; begun is true once the object was, left once it
	// was in another phase than Phoned Home, and silent once it did not send events.
	state               string
	begun, left, silent bool
}

func (w *waiter) wait(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := w.Clock.NewTimer(w.timeout)
	defer timer.Stop()
	go func() {
		select {
		case <-timer.C():
			cancel(context.DeadlineExceeded)
		case <-ctx.Done():
		}
	}()
	every := time.Duration(0)
	if strings.HasPrefix(w.goal, "power=") || w.goal == forPhonedHome {
		every = powerInterval
	}
	err := w.client.Follow(ctx, w.ref, every, w.observe)
	switch {
	case err == nil:
		w.printf("%s: %s\n", w.ref, w.goal)
		return nil
	case ctx.Err() == nil:
		return err
	case errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return fmt.Errorf("%s: not %s after %s; last seen: %s", w.ref, w.goal, w.timeout, w.state)
	}
	return fmt.Errorf("%s: interrupted; last seen: %s", w.ref, w.state)
}

// observe returns whether an object has reached the goal.
func (w *waiter) observe(ctx context.Context, o *fleet.Object) (bool, error) {
	switch {
	case o == nil && w.goal == forReleased:
		if w.begun {
			return true, nil
		}
		_, err := w.client.Get(ctx, w.ref) // a name that never existed is an error
		return err == nil, err
	case o == nil && w.begun:
		return false, fmt.Errorf("%s is gone", w.ref)
	case o == nil:
		_, err := w.client.Get(ctx, w.ref)
		return false, err
	}
	w.begun = true
	phase := o.Phase()
	done, state := false, phase
	switch w.goal {
	case forPhonedHome:
		done, state = w.phonedHome(ctx, o)
	case forReady:
		c := o.Condition(infrastructure.ConditionReady)
		if c != nil {
			done, state = o.IsTrue(infrastructure.ConditionReady), fmt.Sprintf("%s, Ready is %s (%s)", phase, c.Status, c.Reason)
		}
	case forReleased:
		done = o.Allocation != nil && o.Allocation.Phase == v1alpha4.AllocationReleased
	default:
		var err error
		if done, state, err = w.power(ctx, o); err != nil {
			return false, err
		}
	}
	if state = clean(state); state != w.state {
		w.state = state
		w.note("%s: %s", w.ref, state)
	}
	if !done && phase == infrastructure.PhaseGone && w.goal != forReleased {
		return false, fmt.Errorf("%s has no metal any more: the allocation ended without a release by this API", w.ref)
	}
	return done, nil
}

// phonedHome returns whether the operating system has reported since the operation that was
// requested last: by the time of its event, or because the machine was seen in another phase.
func (w *waiter) phonedHome(ctx context.Context, o *fleet.Object) (done bool, state string) {
	phase := o.Phase()
	if phase != infrastructure.PhasePhonedHome {
		w.left = true
		return false, phase
	}
	w.silent = w.silent || o.Metal.Liveliness != alive
	requested, concerned := restarted(o)
	switch {
	case !concerned, w.left, o.Metal.LastEvent != nil && isSince(o.Metal.LastEvent.Time, requested):
		return true, phase
	case o.LastOperation.Action == string(v1alpha4.PowerOn):
		return w.isOn(ctx, o, requested)
	}
	return false, phase + ", as before the last action"
}

// alive is the liveliness of a machine that sends events.
const alive = "Alive"

// isOn returns whether a machine that has phoned home before it was switched on runs: it was on
// already, or has booted from its disk, which is no event if it has not sent another since.
func (w *waiter) isOn(ctx context.Context, o *fleet.Object, requested time.Time) (done bool, state string) {
	phase := o.Phase()
	switch {
	case o.Metal.Liveliness != alive || !o.IsTrue(infrastructure.ConditionReady):
		return false, phase + ", and not ready"
	case w.silent:
		return true, phase
	}
	power, err := w.client.PowerState(ctx, w.ref)
	switch {
	case err != nil:
		return false, phase + ", and power cannot be read: " + err.Error()
	case power.Status.State == v1alpha4.PowerStateOn && isSince(power.Status.ObservedTime, requested):
		return true, phase
	}
	return false, phase + ", and no report that it is on since the last action"
}

// isSince compares a time that was shown, in seconds, with one that has a fraction.
func isSince(t *metav1.Time, start time.Time) bool {
	return !t.IsZero() && !t.Time.Before(start.Truncate(time.Second))
}

// restarted returns when a restart of this allocation was requested last.
func restarted(o *fleet.Object) (time.Time, bool) {
	last := o.LastOperation
	if last == nil || last.RequestTime == nil || last.Outcome == v1alpha4.OperationRefused || o.Metal == nil ||
		last.AllocationUUID != "" && last.AllocationUUID != o.Metal.AllocationUUID {
		return time.Time{}, false
	}
	switch last.Action {
	case string(v1alpha4.PowerBootDisk), string(v1alpha4.PowerBootPXE), string(v1alpha4.PowerBootBIOS):
		return time.Time{}, false
	}
	return last.RequestTime.Time, true
}

// power returns whether the power state is that of the goal, and was reported since the
// operation that was requested last. A state that cannot be read for now is none.
func (w *waiter) power(ctx context.Context, o *fleet.Object) (bool, string, error) {
	power, err := w.client.PowerState(ctx, w.ref)
	if err != nil {
		if w.state == "" || !fleet.Temporary(err) {
			return false, "", err
		}
		return false, "power cannot be read: " + err.Error(), nil
	}
	want := v1alpha4.PowerStateOff
	if w.goal == forPowerOn {
		want = v1alpha4.PowerStateOn
	}
	requested, concerned := restarted(o)
	recent := !concerned || isSince(power.Status.ObservedTime, requested)
	state := "power is " + string(power.Status.State)
	if !recent {
		state += ", as reported before the last action"
	}
	return power.Status.State == want && recent, state, nil
}
