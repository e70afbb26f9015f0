package allocation

import (
	"context"
	"errors"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/providerid"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// serverWork is one operation on a machine or firewall.
type serverWork struct {
	*Protocol
	k       servers
	subject subject
	// object is the uid of the object, id the identity of its metal.
	object types.UID
	id     identity
	plan   *plan
	// attempt is the last one that is recorded.
	attempt int32
	// leave gives the place in the partition back.
	leave func()
	// saw is the record as a release saw it, or left it, last.
	saw sighting
	// adopted: what was found had been allocated before.
	adopted bool
	// dry: nothing is written.
	dry bool
}

// allocateServer takes a machine or firewall from a claim to metal.
func (p *Protocol) allocateServer(ctx context.Context, k servers, sub subject, body *infrastructure.Allocation) (*server, error) {
	s, err := k.get(ctx, sub.namespace, sub.name)
	if err != nil {
		return nil, err
	}
	a := s.allocation()
	if err := sameObject(s.meta, uidOf(body)); err != nil {
		return nil, err
	}
	if a.Phase == infrastructure.AllocationAllocated {
		return s, nil
	}
	if err := allocatable(s.meta, a.Phase); err != nil {
		return nil, err
	}
	if err := p.notBefore(&a.AllocationState, s.status.Conditions); err != nil {
		return nil, err
	}
	var userData []byte
	cluster := a.ClusterName
	if body != nil {
		userData = body.UserData
		if body.ClusterRef != nil {
			cluster = body.ClusterRef.Name
		}
	}
	w := p.serverWork(k, sub, s)
	w.dry = IsDryRun(ctx)
	defer w.leaveGate()
	if w.plan, err = p.plan(ctx, k, s, cluster); err != nil {
		return nil, w.tell(ctx, err)
	}
	w.id.cluster = w.plan.clusterUID
	switch id := w.plan.machineID; {
	case id == "":
		if err := w.plan.complete(); err != nil {
			return nil, w.tell(ctx, err)
		}
	case !w.dry:
		give, taken := p.named.take(id, sub)
		if !taken {
			return nil, refuse(http.StatusConflict, "the machine %s is being asked for already", id)
		}
		defer give()
	}
	if w.dry {
		return s, w.tryAllocate(ctx)
	}
	work := allocating[*metal.Machine]{
		what: "machine", find: w.find, enter: w.enter, begin: w.begin, uncertain: w.uncertain, check: w.check,
		openUntil: p.openUntil(&a.AllocationState),
		call:      func(ctx context.Context) (*metal.Machine, error) { return w.call(ctx, s, userData) },
	}
	m, err := obtain(ctx, p, work)
	w.leaveGate()
	if err != nil {
		return nil, w.giveUp(ctx, err)
	}
	return w.finish(ctx, m)
}

func (p *Protocol) serverWork(k servers, sub subject, s *server) *serverWork {
	w := &serverWork{Protocol: p, k: k, subject: sub, object: s.meta.UID, attempt: s.allocation().Attempt}
	w.id = identity{uid: s.identity(), namespace: sub.namespace, name: sub.name}
	return w
}

// serverChange changes a record; the allocation is never nil.
type serverChange func(s *server, a *infrastructure.MachineAllocation) error

// swap changes the record by compare-and-swap, until it is done.
func (w *serverWork) swap(ctx context.Context, change serverChange) (swapped *server, err error) {
	err = w.persist(ctx, func(ctx context.Context) error {
		swapped, err = w.swapOnce(ctx, change)
		return err
	})
	return swapped, err
}

func (w *serverWork) swapOnce(ctx context.Context, change serverChange) (*server, error) {
	return w.k.update(ctx, w.subject.namespace, w.subject.name, func(s *server) error {
		if err := sameObject(s.meta, w.object); err != nil {
			return err
		}
		if s.status.Allocation == nil {
			s.status.Allocation = &infrastructure.MachineAllocation{}
		}
		if err := change(s, s.status.Allocation); err != nil || !w.dry {
			return err
		}
		return errDryRun
	})
}

// enter takes a place in the partition.
func (w *serverWork) enter(ctx context.Context) (err error) {
	w.leaveGate()
	w.leave, err = w.gates.enter(ctx, w.plan.partition, w.plan.machineID != "")
	return err
}

// begin records an attempt.
func (w *serverWork) begin(ctx context.Context) error {
	err := w.once(ctx, func(ctx context.Context) error {
		_, err := w.swapOnce(ctx, func(s *server, a *infrastructure.MachineAllocation) error {
			if err := allocatable(s.meta, a.Phase); err != nil {
				return err
			}
			if err := w.Protocol.begin(&a.AllocationState, w.attempt); err != nil {
				return err
			}
			a.UID, a.ClusterName = w.id.uid, w.plan.clusterName
			w.setAllocated(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, infrastructure.ReasonAllocating,
				"The metal-api is being asked for a machine.")
			return nil
		})
		return err
	})
	if err != nil {
		return &notBegun{err}
	}
	w.attempt++
	return nil
}

// notBegun is why an attempt was not recorded; the record is left as it is.
type notBegun struct{ error }

func (e *notBegun) Unwrap() error { return e.error }

func (w *serverWork) leaveGate() {
	if w.leave != nil {
		w.leave()
		w.leave = nil
	}
}

// call makes the one call that allocates machines and firewalls.
func (w *serverWork) call(ctx context.Context, s *server, userData []byte) (*metal.Machine, error) {
	defer w.leaveGate()
	request := w.request(s, w.k.kind(), w.plan, w.id, userData)
	var m *metal.Machine
	var err error
	if w.k.role() == metal.RoleFirewall {
		m, err = w.opts.Metal.AllocateFirewall(ctx, metal.FirewallRequest{MachineRequest: request, Rules: rules(s.rules)})
	} else {
		m, err = w.opts.Metal.AllocateMachine(ctx, request)
	}
	switch {
	case err == nil && m.AllocationUUID() == "":
		err = &metal.Error{Kind: metal.Uncertain, Op: "machine allocate", Message: "the answer names no allocation"}
	case err == nil:
		w.gates.succeeded(w.plan.partition)
	case behindChoice(err):
		w.gates.failed(w.plan.partition)
	}
	return m, err
}

// giveUp records how an attempt ended without metal.
func (w *serverWork) giveUp(ctx context.Context, err error) error {
	var early *notBegun
	if errors.As(err, &early) {
		return early.error
	}
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	_, err = w.swap(ctx, func(s *server, a *infrastructure.MachineAllocation) error {
		if a.Phase != infrastructure.AllocationAllocating || a.Attempt != w.attempt {
			return nil
		}
		w.refused(&a.AllocationState, r)
		w.setAllocated(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, reasonOf(r), r.words)
		return nil
	})
	w.at("machine/swapped-back")
	if err != nil && !apierrors.IsNotFound(err) {
		klog.FromContext(ctx).Error(err, "Cannot record that an attempt was refused: it is found out again later")
	}
	return r
}

// tell makes a condition of a refusal that comes before the first attempt.
func (w *serverWork) tell(ctx context.Context, err error) error {
	var r *refusal
	if !errors.As(err, &r) || r.code != http.StatusUnprocessableEntity {
		return err
	}
	if _, err := w.swap(ctx, func(s *server, a *infrastructure.MachineAllocation) error {
		if a.Phase == "" {
			w.setAllocated(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, reasonOf(r), r.words)
		}
		return nil
	}); checked(err) != nil {
		return err
	}
	return r
}

// uncertain says in the record why it takes so long.
func (w *serverWork) uncertain(ctx context.Context, words string) {
	if _, err := w.swap(ctx, func(s *server, a *infrastructure.MachineAllocation) error {
		if a.Phase == infrastructure.AllocationAllocating && a.Attempt == w.attempt {
			w.setAllocated(&s.status.Conditions, s.meta.Generation, metav1.ConditionFalse, infrastructure.ReasonAllocationUncertain,
				"The outcome of the allocation is unknown; the server checks it before it tries again: "+words)
		}
		return nil
	}); err != nil {
		klog.FromContext(ctx).Info("Cannot record that an answer was lost", "reason", err.Error())
	}
}

// finish records the metal that was allocated, found or adopted.
func (w *serverWork) finish(ctx context.Context, m *metal.Machine) (*server, error) {
	w.opts.Observer.LearnMachine(m)
	w.at("machine/learned")
	s, err := w.swap(ctx, func(s *server, a *infrastructure.MachineAllocation) error {
		same := a.MachineID == m.ID && a.AllocationUUID == m.AllocationUUID()
		switch {
		case a.Phase == infrastructure.AllocationAllocated && same:
			return nil
		case a.Phase != infrastructure.AllocationAllocating && a.Phase != "", a.Attempt != w.attempt:
			// A later attempt may be about to allocate another machine.
			return refuse(http.StatusConflict, "another operation was faster")
		}
		a.Phase, a.StartTime, a.NotBefore = infrastructure.AllocationAllocated, w.now(), nil
		a.MachineID, a.AllocationUUID, a.Adopted = m.ID, m.AllocationUUID(), w.adopted
		a.UID = w.id.uid
		if uid := m.UID(); w.adopted && uid != "" {
			a.UID = types.UID(uid)
		}
		if *s.providerID == "" {
			*s.providerID = providerid.New(m.Partition, m.ID)
		}
		return nil
	})
	w.at("machine/allocated")
	if err != nil {
		// What no record names is shown as discovered, and kept.
		klog.FromContext(ctx).Error(err, "Allocated metal could not be recorded", "machine", m.ID)
	}
	return s, err
}

// behindChoice tells whether a refusal comes from behind the metal-api's choice
// of a machine, so that there is something for it to clean up.
func behindChoice(err error) bool {
	var e *metal.Error
	if !errors.As(err, &e) || (e.Kind != metal.Refused && e.Kind != metal.NotFound) {
		return false
	}
	// Unknown images, sizes and partitions are 400.
	return e.Status != http.StatusBadRequest && !beforeChoice.MatchString(e.Message)
}
