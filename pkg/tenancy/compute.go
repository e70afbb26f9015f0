// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// namespace is what counts of a Namespace.
type namespace struct {
	name            string
	uid             types.UID
	resourceVersion string // its resource version
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
	// uid is the Namespace's: another one of its name is not bound by it. It is
	// empty in a record that was written before bindings had uids.
	uid types.UID
	// takenOver is when the Namespace took over the records of an earlier one of
	// its name; zero if it did not.
	takenOver time.Time
}

func (b binding) equal(other binding) bool {
	return b.project == other.project && b.uid == other.uid && b.takenOver.Equal(other.takenOver)
}

// unknownUID is the uid in a binding of which only the name is known, and of
// which the Namespace is gone.
const unknownUID types.UID = "unknown"

// outcome is the result of the project label of a namespace.
type outcome string

const (
	// unlabeled: it asks for no project, and has none.
	unlabeled outcome = "unasked"
	// assigned: it has the project that it asks for.
	assigned outcome = "granted"
	// stillBound: it has the project of a binding that it does not ask for any more,
	// and that still has records.
	stillBound outcome = "held"
	// invalid: what it asks for is no project id.
	invalid outcome = "invalid"
	// projectTaken: the project that it asks for is another namespace's.
	projectTaken outcome = "taken"
	// terminating: it is being deleted, and nothing begins in it.
	terminating outcome = "late"
	// abandoned: there are records of a Namespace of this name that is gone. They
	// are hidden, and the Namespace that has the name now, if any, is not bound.
	abandoned outcome = "abandoned"
)

// result is the binding of a namespace, and why it has it.
type result struct {
	namespace
	outcome outcome
	// boundProject is the project that it has, if any.
	boundProject string
	// projectHolder is the namespace that has the project that it asks for, if it is
	// taken.
	projectHolder string
	// leftBehind is the binding of the records, if the verdict is abandoned, or if it is
	// taken by such records.
	leftBehind binding
	// tookOver is true when the Namespace has just taken over the records of an
	// earlier one.
	tookOver bool
	// formerUID is the uid of the Namespace that is gone, if the verdict is abandoned
	// or tookOver is true.
	formerUID types.UID
	// conflicting is true if the verdict is abandoned and no Namespace can take the
	// records over: the namespace has a binding of another project, or the records'
	// project is another namespace's.
	conflicting bool
}

// computeBindings returns which projects namespaces have, by namespace. What is in force
// stays so, if it is asked for or the namespace holds records: thus the older
// binding wins, whoever asks. Of new ones, the older Namespace's does.
//
// A binding is of one Namespace, by its uid. A later Namespace of the same name
// takes records over only if it asks for the same project; otherwise their
// binding is kept for them, and is in force for nobody. A binding without a uid
// is of the Namespace that there is, unless that is younger than a record: then it
// is of an earlier one. What is in force is completed by what records say of the
// Namespaces that they are of (complete).
func computeBindings(all []namespace, inForce map[string]binding, holds func(string) bool, oldest func(string) time.Time, origins map[string][]Origin, now time.Time) (next map[string]binding, judged map[string]result) {
	next, judged = map[string]binding{}, map[string]result{}
	holder := map[string]string{}
	bind := func(j result, b binding) {
		next[j.name], holder[b.project] = b, j.name
		if j.outcome != abandoned {
			j.boundProject = b.project
		}
		judged[j.name] = j
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
		case !holds(name):
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
		if holder[left.project] == "" {
			holder[left.project] = name
		}
		if _, done := judged[name]; !done {
			ns := known[name]
			ns.name = name
			judged[name] = result{namespace: ns, outcome: abandoned, leftBehind: left, formerUID: left.uid, conflicting: true}
		}
	}
	all = slices.SortedFunc(slices.Values(all), func(a, b namespace) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.name, b.name))
	})
	for _, ns := range all {
		other := holder[ns.project]
		switch _, done := judged[ns.name]; {
		case done:
		case !ns.labeled:
			judged[ns.name] = result{namespace: ns, outcome: unlabeled}
		case !isProjectID(ns.project):
			judged[ns.name] = result{namespace: ns, outcome: invalid}
		case other != "":
			judged[ns.name] = result{namespace: ns, outcome: projectTaken, projectHolder: other, leftBehind: judged[other].leftBehind}
		case ns.deleting && !holds(ns.name):
			judged[ns.name] = result{namespace: ns, outcome: terminating}
		default:
			bind(result{namespace: ns, outcome: assigned}, binding{project: ns.project, uid: ns.uid})
		}
	}
	return next, judged
}
