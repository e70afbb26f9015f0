// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// namespace is the part of a Namespace that bindings depend on.
type namespace struct {
	name            string
	uid             types.UID
	resourceVersion string
	created         time.Time
	// labeled is true if it has the label, and project the label's value.
	labeled bool
	project string
	// deleting is true while it is being deleted.
	deleting bool
}

// binding is the project of a Namespace.
type binding struct {
	project string
	// uid is the Namespace's: a later one of the same name is not bound by it. It is
	// empty in a record that was written before bindings had uids.
	uid types.UID
	// takenOver is when the Namespace took over the records of an earlier one of
	// its name; zero if it did not.
	takenOver time.Time
}

func (b binding) equal(other binding) bool {
	return b.project == other.project && b.uid == other.uid && b.takenOver.Equal(other.takenOver)
}

// unknownUID is the uid in a binding whose Namespace is gone and is known by name
// only.
const unknownUID types.UID = "unknown"

// outcome is the result of the project label of a namespace.
type outcome string

const (
	// unlabeled: it has no project label, and no project.
	unlabeled outcome = "unlabeled"
	// assigned: it has the project that its label names.
	assigned outcome = "assigned"
	// stillBound: its label has changed, and its binding stays until its last record
	// is gone.
	stillBound outcome = "stillBound"
	// invalid: its label is not a project id.
	invalid outcome = "invalid"
	// projectTaken: the project that its label names belongs to another namespace.
	projectTaken outcome = "projectTaken"
	// terminating: it is being deleted, and is not bound any more.
	terminating outcome = "terminating"
	// abandoned: there are records of a deleted Namespace of this name. They are
	// hidden, and the Namespace that has the name now, if any, is not bound.
	abandoned outcome = "abandoned"
)

// result is the binding of a namespace, and why it has it.
type result struct {
	namespace
	outcome outcome
	// boundProject is the project that it has, if any.
	boundProject string
	// otherNamespace is the namespace that has the project, if the outcome is
	// projectTaken.
	otherNamespace string
	// leftBehind is the binding of abandoned records: its own, or those that have the
	// project that its label names.
	leftBehind binding
	// tookOver is true when the Namespace takes over the records of an earlier one.
	tookOver bool
	// formerUID is the uid of the deleted Namespace, if the outcome is abandoned or
	// tookOver is true.
	formerUID types.UID
	// conflicting is true if the outcome is abandoned and no Namespace can take the
	// records over: the namespace has a binding of another project, or the records'
	// project is another namespace's.
	conflicting bool
}

// computeBindings returns the bindings by namespace, and the result for each
// Namespace. A binding in force stays in force while the label asks for it or the
// namespace has records: the older binding wins. Of new ones, the older Namespace
// wins.
//
// A binding belongs to one Namespace, by its uid. A later Namespace of the same
// name takes records over only if its label names the same project; otherwise their
// binding is kept without being in force. A binding without a uid belongs to the
// existing Namespace, unless that is younger than a record: then it belongs to an
// earlier one. Bindings in force are completed from the Namespaces that records
// name (completeFromOrigins).
func computeBindings(all []namespace, inForce map[string]binding, hasRecords func(string) bool, oldest func(string) time.Time, origins map[string][]Origin, now time.Time) (next map[string]binding, results map[string]result) {
	next, results = map[string]binding{}, map[string]result{}
	namespaceOf := map[string]string{}
	bind := func(r result, b binding) {
		next[r.name], namespaceOf[b.project] = b, r.name
		if r.outcome != abandoned {
			r.boundProject = b.project
		}
		results[r.name] = r
	}
	known := map[string]namespace{}
	for _, ns := range all {
		known[ns.name] = ns
	}
	inForce, stray := completeFromOrigins(known, inForce, origins)
	for _, name := range slices.Sorted(maps.Keys(inForce)) {
		b := inForce[name]
		ns, found := known[name]
		if found && b.uid == "" {
			b.uid = unknownUID
			if first := oldest(name); first.IsZero() || !ns.created.After(first) {
				b.uid = ns.uid
			}
		}
		same := found && ns.uid == b.uid
		asks := found && ns.labeled && ns.project == b.project
		left, strays := stray[name]
		switch {
		case strays:
			ns.name = name
			bind(result{namespace: ns, outcome: abandoned, leftBehind: left, formerUID: left.uid, conflicting: true}, b)
		case same && asks:
			bind(result{namespace: ns, outcome: assigned}, b)
		case !hasRecords(name):
			// It ends.
		case same:
			bind(result{namespace: ns, outcome: stillBound}, b)
		case asks && !ns.deleting:
			former := b.uid
			b.uid, b.takenOver = ns.uid, now.UTC().Truncate(time.Second)
			bind(result{namespace: ns, outcome: assigned, tookOver: true, formerUID: former}, b)
		default:
			ns.name = name
			b.uid = cmp.Or(b.uid, unknownUID)
			bind(result{namespace: ns, outcome: abandoned, leftBehind: b, formerUID: b.uid}, b)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(stray)) {
		left := stray[name]
		if namespaceOf[left.project] == "" {
			namespaceOf[left.project] = name
		}
		if _, done := results[name]; !done {
			ns := known[name]
			ns.name = name
			results[name] = result{namespace: ns, outcome: abandoned, leftBehind: left, formerUID: left.uid, conflicting: true}
		}
	}
	all = slices.SortedFunc(slices.Values(all), func(a, b namespace) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.name, b.name))
	})
	for _, ns := range all {
		other := namespaceOf[ns.project]
		switch _, done := results[ns.name]; {
		case done:
		case !ns.labeled:
			results[ns.name] = result{namespace: ns, outcome: unlabeled}
		case !isProjectID(ns.project):
			results[ns.name] = result{namespace: ns, outcome: invalid}
		case other != "":
			results[ns.name] = result{namespace: ns, outcome: projectTaken, otherNamespace: other, leftBehind: results[other].leftBehind}
		case ns.deleting && !hasRecords(ns.name):
			results[ns.name] = result{namespace: ns, outcome: terminating}
		default:
			bind(result{namespace: ns, outcome: assigned}, binding{project: ns.project, uid: ns.uid})
		}
	}
	return next, results
}
