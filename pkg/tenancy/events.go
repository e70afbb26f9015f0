// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// Reasons of Events on Namespaces. They are for administrators, in the
// namespace default, as Events about what belongs to no namespace are.
const (
	// ReasonBound: the namespace has a project that it did not have before.
	ReasonBound = "ProjectBound"
	// ReasonUnbound: the namespace has none any more.
	ReasonUnbound = "ProjectUnbound"
	// ReasonInvalid: the label is no project id.
	ReasonInvalid = "ProjectIDInvalid"
	// ReasonTaken: the project in the label is another namespace's.
	ReasonTaken = "ProjectTaken"
	// ReasonStillBound: the label was changed or taken off, but the namespace
	// still holds objects under the binding that was in force before.
	ReasonStillBound = "ProjectStillBound"
	// ReasonAbandoned: there are records of a Namespace of this name that is gone.
	ReasonAbandoned = "RecordsAbandoned"
	// ReasonTakenOver: the Namespace shows the records of an earlier one of its
	// name, which was bound to the same project.
	ReasonTakenOver = "RecordsTakenOver"
)

// action is what Events say was being done.
const action = "Bind"

// eventRepeatInterval is how often a warning is repeated; Events are kept for an hour.
const eventRepeatInterval = 30 * time.Minute

// lastEvent is what was said last about a namespace.
type lastEvent struct {
	reason, note string
	at           time.Time
}

// recordEvents says what has changed since was, and what is wrong, once and then
// every now and then. What was in force before this process is no news.
func (b *binder) recordEvents(ctx context.Context, was, is *state) {
	logger := klog.FromContext(ctx)
	for _, name := range slices.Sorted(maps.Keys(is.results)) {
		r := is.results[name]
		if before := was.results[name].boundProject; len(was.results) > 0 && before != r.boundProject && r.outcome != abandoned {
			reason, note := ReasonBound, fmt.Sprintf("bound to the project %s, whose metal is shown here from now on", r.boundProject)
			if r.boundProject == "" {
				reason, note = ReasonUnbound, fmt.Sprintf("not bound to the project %s any more", before)
			}
			logger.Info("The binding of a namespace has changed", "namespace", name, "project", r.boundProject, "before", before)
			b.recordEvent(r, corev1.EventTypeNormal, reason, note)
		}
		if r.tookOver {
			logger.Info("A Namespace has taken over the records of an earlier one of its name", "namespace", name, "project", r.boundProject)
			b.recordEvent(r, corev1.EventTypeNormal, ReasonTakenOver, fmt.Sprintf("took over the objects of an earlier namespace of this name (project %s); objects that were marked for deletion before keep their metal until they have the annotation %s",
				r.boundProject, infrastructure.ForceReleaseAnnotation))
		}
		reason, note := r.problem()
		said := lastEvent{reason, note, b.clock.Now()}
		last := b.lastEvents[name]
		switch {
		case reason == "":
			delete(b.lastEvents, name)
		case last.reason != reason || last.note != note || said.at.Sub(last.at) >= eventRepeatInterval:
			b.lastEvents[name] = said
			logger.Info("The binding of a namespace differs from its label", "namespace", name, "reason", reason, "message", note)
			b.recordEvent(r, corev1.EventTypeWarning, reason, note)
		}
	}
	maps.DeleteFunc(b.lastEvents, func(name string, _ lastEvent) bool { _, known := is.results[name]; return !known })
}

// recordEvent records an Event about a Namespace: the one that there is, or else the
// one that is gone.
func (b *binder) recordEvent(r result, kind, reason, note string) {
	uid := cmp.Or(r.uid, r.leftBehind.uid)
	if uid == "" {
		return
	}
	about := &corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Name: r.name, UID: uid}
	b.events.Eventf(about, nil, kind, reason, action, "%s", oneline.Sanitize(note, oneline.MaxNote))
}

// problem says what is wrong, to an administrator.
func (r result) problem() (reason, note string) {
	label := infrastructure.ProjectLabel
	switch r.outcome {
	case invalid:
		return ReasonInvalid, fmt.Sprintf("the label %s is %q, and %s; nothing can be created here until it is corrected", label, r.project, projectIDHelp)
	case abandoned:
		return ReasonAbandoned, r.abandonedNote()
	case projectTaken:
		if r.leftBehind.project != "" {
			return ReasonTaken, fmt.Sprintf("the project %s has objects of the namespace %q, which was deleted; nothing can be created here until that is resolved (%s)", r.project, r.otherNamespace, abandonedHelp)
		}
		return ReasonTaken, fmt.Sprintf("the project %s is bound to the namespace %q already, and a project has one namespace; nothing can be created here until the label of one of the two is changed", r.project, r.otherNamespace)
	case stillBound:
		return ReasonStillBound, fmt.Sprintf("the project %s stays bound, although %s, because the namespace still holds objects of %s: restore the label (kubectl label --overwrite namespace %s %s=%s) or delete these objects: the binding then changes",
			r.boundProject, r.labelChange(), infrastructure.GroupName, r.name, label, r.boundProject)
	}
	return "", ""
}

// abandonedHelp is the runbook of the alert MetalstackRecordsAbandoned.
const abandonedHelp = "https://github.com/metal-stack/metalstack-apiserver/blob/main/docs/operations.md#metalstackrecordsabandoned"

// abandonedNote says what was left behind, and what can be done.
func (r result) abandonedNote() string {
	if r.conflicting {
		return fmt.Sprintf("the namespace %s has objects of %s that belong to an earlier namespace of its name (uid %s) and to the project %s, and cannot take them over, because it has objects of another project, or another namespace is bound to that project. All objects of the namespace are hidden and keep their metal until the records of the earlier namespace are set aside (%s)",
			r.name, infrastructure.GroupName, r.leftBehind.uid, r.leftBehind.project, abandonedHelp)
	}
	what := fmt.Sprintf("namespace %s (uid %s, project %s) was removed and left objects of %s behind", r.name, r.leftBehind.uid, r.leftBehind.project, infrastructure.GroupName)
	if r.uid == "" {
		return fmt.Sprintf("%s; they are hidden and keep their metal: create the namespace again with the label %s=%s to take them over, or migrate their metal to another namespace (%s)",
			what, infrastructure.ProjectLabel, r.leftBehind.project, abandonedHelp)
	}
	return fmt.Sprintf("%s; they are hidden and keep their metal, and nothing can be created here while they exist: if this namespace belongs to the same tenant, label it %s=%s to take them over, otherwise migrate their metal to another namespace (%s)",
		what, infrastructure.ProjectLabel, r.leftBehind.project, abandonedHelp)
}
