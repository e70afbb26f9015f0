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
	name    string
	uid     types.UID
	version string // its resource version
	created time.Time
	// asks is true if it has the label, and project the label's value.
	asks    bool
	project string
	// going is true while it is being deleted.
	going bool
}

// verdict is what becomes of what a namespace asks for.
type verdict string

const (
	// unasked: it asks for no project, and has none.
	unasked verdict = "unasked"
	// granted: it has the project that it asks for.
	granted verdict = "granted"
	// held: it has the project of a binding that it does not ask for any more,
	// and that still has records.
	held verdict = "held"
	// invalid: what it asks for is no project id.
	invalid verdict = "invalid"
	// taken: the project that it asks for is another namespace's.
	taken verdict = "taken"
	// late: it is being deleted, and nothing begins in it.
	late verdict = "late"
)

// judgement is what was decided about a namespace.
type judgement struct {
	namespace
	verdict verdict
	// bound is the project that it has, if any.
	bound string
	// holder is the namespace that has the project that it asks for, if it is
	// taken.
	holder string
}

// decide returns which projects namespaces have, by namespace. What is in force
// stays so, if it is asked for or the namespace holds records: thus the older
// binding wins, whoever asks. Of new ones, the older Namespace's does.
func decide(all []namespace, inForce map[string]string, holds func(string) bool) (next map[string]string, judged map[string]judgement) {
	next, judged = map[string]string{}, map[string]judgement{}
	holder := map[string]string{}
	rule := func(ns namespace, v verdict) {
		if v == granted || v == held {
			project := inForce[ns.name]
			if v == granted {
				project = ns.project
			}
			next[ns.name], holder[project] = project, ns.name
		}
		judged[ns.name] = judgement{namespace: ns, verdict: v, bound: next[ns.name]}
	}
	known := map[string]namespace{}
	for _, ns := range all {
		known[ns.name] = ns
	}
	for _, name := range slices.Sorted(maps.Keys(inForce)) {
		ns, found := known[name]
		switch {
		case found && ns.asks && ns.project == inForce[name]:
			rule(ns, granted)
		case holds(name):
			// Also if there is no such Namespace any more: what it held is there.
			ns.name = name
			rule(ns, held)
		}
	}
	all = slices.SortedFunc(slices.Values(all), func(a, b namespace) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.name, b.name))
	})
	for _, ns := range all {
		other := holder[ns.project]
		switch _, done := judged[ns.name]; {
		case done:
		case !ns.asks:
			rule(ns, unasked)
		case !isProjectID(ns.project):
			rule(ns, invalid)
		case other != "":
			judged[ns.name] = judgement{namespace: ns, verdict: taken, holder: other}
		case ns.going && !holds(ns.name):
			rule(ns, late)
		default:
			rule(ns, granted)
		}
	}
	return next, judged
}
