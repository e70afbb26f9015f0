package tenancy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
)

// confirmAtATime is how many Namespaces are looked at in one round, one after the
// other. The next round, a second later, goes on with the others.
const confirmAtATime = 100

// finding is that a Namespace is gone, and what has its name now.
type finding struct {
	former types.UID
	now    namespace // Without its version; without a uid there is none.
}

func (j judgement) finding() finding { return finding{j.former, compared(j.namespace)} }

// compared is what a look at a Namespace is compared by.
func compared(ns namespace) namespace {
	ns.version, ns.created = "", time.Time{}
	return ns
}

// open returns the judgements that say that a Namespace is gone, as far as
// neither a look has confirmed them nor are they in force. The watch may be behind
// after a change of the active server, or after it was interrupted, and would hide
// records of a Namespace that is there, or give them to one that is gone.
func (k *keeper) open(judged map[string]judgement) []judgement {
	var open []judgement
	for _, name := range slices.Sorted(maps.Keys(judged)) {
		j := judged[name]
		if j.former == "" || j.verdict == abandoned && k.gone[name] == j.former || k.confirmed[name] == j.finding() {
			continue
		}
		open = append(open, j)
	}
	return open
}

// confirm looks at the Namespaces of judgements. It returns an error, and the
// judgements stay open, as soon as a look fails or shows something else than the
// watch.
func (k *keeper) confirm(ctx context.Context, open []judgement) error {
	for _, j := range open[:min(len(open), confirmAtATime)] {
		if err := k.look(ctx, j); err != nil {
			return err
		}
		k.confirmed[j.name] = j.finding()
	}
	return nil
}

func (k *keeper) look(ctx context.Context, j judgement) error {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	now := namespace{name: j.name}
	live, err := k.Live(ctx, j.name)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("the namespace %q seems to be another one than its objects are of (uid %s), and cannot be looked at: %w", j.name, j.former, err)
	default:
		now = compared(namespaceOf(live))
	}
	if seen := compared(j.namespace); now != seen {
		return fmt.Errorf("the watch of Namespaces is behind: the namespace %q is %s, and was last seen as %s", j.name, now.described(), seen.described())
	}
	return nil
}

// described says in a few words what counts of a Namespace.
func (ns namespace) described() string {
	if ns.uid == "" {
		return "gone"
	}
	return fmt.Sprintf("uid %s, project label %q, being deleted: %t", ns.uid, ns.project, ns.going)
}

// settled forgets what was to be confirmed for what is in force now.
func (k *keeper) settled(judged map[string]judgement) {
	k.gone = map[string]types.UID{}
	for name, j := range judged {
		if j.verdict == abandoned {
			k.gone[name] = j.former
		}
	}
	clear(k.confirmed)
}
