package faults_test

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

const (
	// quietLimit is how long it may take until nobody has anything to do: an
	// open call, the longest pause after refusals, and duplicates.
	quietLimit    = 45 * time.Minute
	quietInterval = 5 * time.Second
)

// calm ends all that goes wrong by chance or on purpose.
func (w *world) calm() {
	w.mu.Lock()
	w.calmed = true
	for _, remove := range w.faults {
		remove()
	}
	w.mu.Unlock()
	w.traps.clear()
	w.records.mend()
	w.lease.mend()
	w.people.makeGood()
	w.note("nothing goes wrong from here on")
}

func (w *world) isCalm() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calmed
}

// settle waits until so says nothing, and complains if that takes too long:
// nothing ever gets stuck.
func (w *world) settle(so func() string) {
	began := time.Now()
	for {
		reason := so()
		if reason == "" {
			w.note("quiet")
			return
		}
		if time.Since(began) > quietLimit {
			w.journal.complain("stuck for %v: %s", quietLimit, reason)
			return
		}
		time.Sleep(quietInterval)
	}
}

// objects are all that have a record.
func (w *world) objects() ([]runtime.Object, error) {
	var all []runtime.Object
	for _, resource := range resources {
		list, err := w.list(resource, "0")
		if err != nil {
			return nil, err
		}
		_ = meta.EachListItem(list, func(item runtime.Object) error {
			if managed(item) {
				all = append(all, item)
			}
			return nil
		})
	}
	return all, nil
}

// said is what the condition Allocated says.
func said(obj runtime.Object) string {
	var conditions []metav1.Condition
	switch o := obj.(type) {
	case *infrastructure.MetalStackMachine:
		conditions = o.Status.Conditions
	case *infrastructure.MetalStackFirewall:
		conditions = o.Status.Conditions
	case *infrastructure.MetalStackCluster:
		conditions = o.Status.Conditions
	}
	if c := meta.FindStatusCondition(conditions, infrastructure.ConditionAllocated); c != nil {
		return c.Message
	}
	return "nobody has asked for its metal"
}

// completeClusters creates the clusters that are missing, without which their
// machines wait.
func (w *world) completeClusters(all []runtime.Object) {
	there := map[string]bool{}
	for _, obj := range all {
		there[obj.(metav1.Object).GetName()] = true
	}
	for _, name := range names[clusters] {
		if !there[name] {
			_ = w.create(clusters, name)
		}
	}
}

// everythingIsAllocated: every object that is there holds its metal, every
// metal of ours belongs to exactly one of them, and watchers know that.
func (w *world) everythingIsAllocated() string {
	all, err := w.objects()
	if err != nil {
		return err.Error()
	}
	w.completeClusters(all)
	w.giveUpNaming(all)
	for _, obj := range all {
		m, state := obj.(metav1.Object), stateOf(obj)
		if m.GetDeletionTimestamp() != nil || state.Phase != infrastructure.AllocationAllocated {
			return fmt.Sprintf("%s is %q, and deleted: %v: %s", m.GetName(), state.Phase, m.GetDeletionTimestamp() != nil, said(obj))
		}
	}
	if reason := w.belongsToOne(all); reason != "" {
		return reason
	}
	return w.watchersAgree()
}

// nothingIsLeft: no object, and no metal of ours.
func (w *world) nothingIsLeft() string {
	all, err := w.objects()
	switch {
	case err != nil:
		return err.Error()
	case len(all) > 0:
		return fmt.Sprintf("%d objects are left, the first is %s, which is %q", len(all), all[0].(metav1.Object).GetName(), stateOf(all[0]).Phase)
	}
	if reason := w.belongsToOne(nil); reason != "" {
		return reason
	}
	return w.watchersAgree()
}

func (w *world) watchersAgree() string {
	for _, f := range w.watchers {
		list, err := w.list(f.resource, "0")
		if err != nil {
			return err.Error()
		}
		if difference := f.differs(list); difference != "" {
			return difference
		}
	}
	return ""
}

// belongsToOne tells of the first allocation made for us that does not belong
// to exactly one record, and of the first record whose metal nobody knows of.
func (w *world) belongsToOne(all []runtime.Object) string {
	named := map[string]int{}
	for _, obj := range all {
		if c, ok := obj.(*infrastructure.MetalStackCluster); ok {
			named[c.Status.Allocation.NetworkID]++
			if c.Status.Allocation.IPAddress != "" {
				named[c.Status.Allocation.IPAddress]++
			}
			continue
		}
		_, allocation := metalOf(obj)
		named[allocation]++
	}
	for _, m := range w.sim.Books().Machines {
		uid := uidIn(m.Tags, nil)
		is := func(obj runtime.Object) bool { return stateOf(obj).UID == uid }
		if byHand(m) && uid != "" && named[m.AllocationUUID] == 0 && slices.ContainsFunc(all, is) {
			return fmt.Sprintf("machine %s carries the identity of an object that has another one, and was not freed", m.ID)
		}
	}
	for what, name := range w.held() {
		if named[name] != 1 {
			return fmt.Sprintf("%s is named by %d records", what, named[name])
		}
		delete(named, name)
	}
	for _, m := range w.sim.Books().Machines {
		if m.Allocated && named[m.AllocationUUID] > 0 {
			// Adopted: it does not carry our tags.
			if named[m.AllocationUUID] > 1 || m.Project != simulator.ProjectA {
				return fmt.Sprintf("machine %s of project %s is named by %d records", m.ID, m.Project, named[m.AllocationUUID])
			}
			delete(named, m.AllocationUUID)
		}
	}
	for _, id := range slices.Concat(w.nameable(aNetwork, allocatedByHand), w.nameable(anAddress, allocatedByHand)) {
		if named[id] > 1 {
			return fmt.Sprintf("the network or address %s, which somebody allocated by hand, is named by %d records", id, named[id])
		}
		delete(named, id)
	}
	freed := map[string]bool{}
	for _, d := range w.sim.Books().History {
		if d.Verb == "free" && d.By != us {
			freed[d.AllocationUUID] = true
		}
	}
	for name := range named {
		if !freed[name] {
			return name + " is recorded, and is not there, and nobody else freed it"
		}
	}
	return ""
}

// held are the machines, networks and addresses that were allocated for us, by
// what records call them.
func (w *world) held() map[string]string {
	held := map[string]string{}
	for _, m := range w.ours() {
		if !byHand(m) {
			held["machine "+m.ID] = m.AllocationUUID
		}
	}
	books := w.sim.Books()
	for _, n := range books.Networks {
		if n.Labels[metal.TagManagementCluster] == managementCluster && n.Project == simulator.ProjectA {
			held["network "+n.ID] = n.ID
		}
	}
	for _, ip := range books.IPs {
		if carries(ip.Tags, managementTag) && ip.Project == simulator.ProjectA {
			held["address "+ip.Address] = ip.Address
		}
	}
	return held
}
