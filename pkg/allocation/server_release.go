package allocation

import (
	"context"
	"errors"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// releaseServer takes a machine or firewall from metal, or from an attempt to
// get it, to nothing.
func (p *Protocol) releaseServer(ctx context.Context, k servers, sub subject, uid types.UID) (*server, error) {
	s, err := k.get(ctx, sub.namespace, sub.name)
	if err != nil {
		return nil, err
	}
	a := s.allocation().DeepCopy()
	if err := sameObject(s.meta, uid); err != nil {
		return nil, err
	}
	if a.Phase == infrastructure.AllocationReleased {
		return s, nil
	}
	if a.Phase == infrastructure.AllocationReleasing {
		if err := p.notBefore(&a.AllocationState, s.status.Conditions); err != nil {
			return nil, err
		}
	}
	if a.Phase != infrastructure.AllocationReleasing {
		if err := p.markedBefore(s.meta); err != nil {
			return nil, err
		}
	}
	w := p.serverWork(k, sub, s)
	w.saw = sightingOf(&a.AllocationState)
	if w.dry = IsDryRun(ctx); w.dry {
		return s, w.tryRelease(ctx, a)
	}
	work := releasing{what: "machine", begin: w.beginFree, uncertain: w.releaseUncertain}
	// Either an attempt to allocate whose answer may still come, or a release.
	openUntil := p.openUntil(&a.AllocationState)
	work.openUntil = p.freeOpenUntil(&a.AllocationState)
	if a.Phase != infrastructure.AllocationReleasing {
		// Nothing is allocated for this object from here on.
		work.begun = p.clock.Now()
		if err := w.beginFree(ctx); err != nil {
			return nil, err
		}
		p.at("machine/releasing")
	}
	if a.MachineID == "" && a.Attempt > 0 {
		m, found, err := settle(ctx, p, allocating[*metal.Machine]{what: "machine", openUntil: openUntil, find: w.find})
		if err != nil {
			return nil, w.holdBack(ctx, asRefusal(err))
		}
		if found {
			a.MachineID, a.AllocationUUID = m.ID, m.AllocationUUID()
			if _, err := w.swap(ctx, func(_ *server, r *infrastructure.MachineAllocation) error {
				r.MachineID, r.AllocationUUID = a.MachineID, a.AllocationUUID
				return nil
			}); err != nil {
				return nil, err
			}
			p.at("machine/found")
		}
	}
	whose := gone
	if a.MachineID != "" {
		work.look = func(ctx context.Context) (standing, error) { return w.whose(ctx, a) }
		work.call = func(ctx context.Context) error { return p.freeMachine(ctx, a.MachineID) }
		if whose, err = dispose(ctx, p, work); err != nil {
			return nil, w.holdBack(ctx, err)
		}
	}
	return w.released(ctx, a, whose)
}

// beginFree records that a machine is about to be freed.
func (w *serverWork) beginFree(ctx context.Context) error {
	start := w.now()
	err := w.once(ctx, func(ctx context.Context) error {
		_, err := w.swapOnce(ctx, func(s *server, a *infrastructure.MachineAllocation) error {
			if err := w.Protocol.beginFree(&a.AllocationState, w.saw, start); err != nil {
				return err
			}
			if a.UID == "" {
				a.UID = w.id.uid
			}
			w.setAllocated(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, infrastructure.ReasonReleasing,
				"The machine is being given back to the metal-api.")
			return nil
		})
		return err
	})
	if err == nil {
		w.saw.phase, w.saw.start = infrastructure.AllocationReleasing, start
	}
	return err
}

// whose looks at the machine of a record. A 404 would prove nothing, so it is
// asked for with a find.
func (w *serverWork) whose(ctx context.Context, a *infrastructure.MachineAllocation) (standing, error) {
	project, err := w.project(w.subject.namespace)
	if err != nil {
		return ours, err
	}
	m, err := w.machine(ctx, a.MachineID)
	if err != nil {
		return ours, err
	}
	return w.judge(m, a, project)
}

// judge says whose a machine is. Only one in the very allocation that is
// recorded, in our project, and with the recorded identity is ours.
func (p *Protocol) judge(m *metal.Machine, a *infrastructure.MachineAllocation, project string) (standing, error) {
	switch {
	case m == nil:
		return absent, nil
	case m.Allocation == nil:
		return gone, nil
	case m.AllocationUUID() != a.AllocationUUID || m.Project() != project:
		return theirs, nil
	case m.UID() == LabelValue(string(a.UID)), m.UID() == "" && a.Adopted:
		return ours, nil
	case m.UID() != "":
		return theirs, nil
	}
	return ours, refuse(http.StatusConflict,
		"machine %s is in the allocation that is recorded, but lost the tag %s, which says whose it is, and is not touched: free it with `metalctl machine delete %s`, or write the tag again",
		m.ID, metal.Tag(metal.TagUID, LabelValue(string(a.UID))), m.ID)
}

// freeMachine makes the one call that frees machines and firewalls.
func (p *Protocol) freeMachine(ctx context.Context, id string) error {
	_, err := p.opts.Metal.FreeMachine(ctx, id)
	return err
}

// holdBack records why a release does not get on; it is tried again. One that
// somebody else has begun since is theirs to hold back: its call may be open.
func (w *serverWork) holdBack(ctx context.Context, err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	if _, err := w.swap(ctx, func(s *server, a *infrastructure.MachineAllocation) error {
		if a.Phase != infrastructure.AllocationReleasing || !w.saw.still(&a.AllocationState) {
			return nil
		}
		w.heldBack(&a.AllocationState, r)
		w.setAllocated(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, releaseReasonOf(r), r.words)
		return nil
	}); err != nil {
		klog.FromContext(ctx).Info("Cannot record why a release was refused", "reason", err.Error())
	}
	w.at("machine/held-back")
	return r
}

// releaseUncertain says in the record why a release takes so long.
func (w *serverWork) releaseUncertain(ctx context.Context, words string) {
	if _, err := w.swap(ctx, func(s *server, a *infrastructure.MachineAllocation) error {
		if a.Phase == infrastructure.AllocationReleasing && w.saw.still(&a.AllocationState) {
			w.setAllocated(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, infrastructure.ReasonReleaseUncertain,
				"The outcome of the release is unknown; the server checks it before it tries again: "+words)
		}
		return nil
	}); err != nil {
		klog.FromContext(ctx).Info("Cannot record that an answer was lost", "reason", err.Error())
	}
}

// released records that the object holds nothing any more.
func (w *serverWork) released(ctx context.Context, was *infrastructure.MachineAllocation, whose standing) (*server, error) {
	reason, message := infrastructure.ReasonReleased, "Nothing had been allocated."
	switch {
	case whose == theirs:
		reason = infrastructure.ReasonNotOurs
		message = "Machine " + was.MachineID + " belongs to somebody else by now, and was not touched."
	case was.MachineID != "":
		message = "Machine " + was.MachineID + " was given back."
	}
	s, err := w.swap(ctx, func(s *server, a *infrastructure.MachineAllocation) error {
		if a.Phase == infrastructure.AllocationReleased {
			return nil
		}
		a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationReleased, w.now(), nil
		w.setAllocated(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, reason, message)
		return nil
	})
	w.at("machine/released")
	return s, err
}
