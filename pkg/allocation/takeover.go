// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// checkMarkedBeforeTakeover refuses to release the metal of an object that was
// marked for deletion before its Namespace took its record over from an earlier
// one. The end of that Namespace marked it, and the Namespace may have been
// created again to keep what it held; a mark cannot be taken back.
// ForceReleaseAnnotation lifts the hold.
func (p *Protocol) checkMarkedBeforeTakeover(m *metav1.ObjectMeta) error {
	if p.opts.TakenOver == nil || m.DeletionTimestamp == nil {
		return nil
	}
	at := p.opts.TakenOver(m.Namespace)
	if _, insists := m.Annotations[infrastructure.ForceReleaseAnnotation]; insists || at.IsZero() || m.DeletionTimestamp.After(at) {
		return nil
	}
	r := refuse(http.StatusUnprocessableEntity,
		"marked for deletion with an earlier namespace %q, whose records were taken over at %s: the object keeps its metal until it has the annotation %s",
		m.Namespace, at.UTC().Format("2006-01-02T15:04:05Z"), infrastructure.ForceReleaseAnnotation)
	r.retryAfter = p.timing.Backoff
	r.invalid = field.Required(forceReleasePath, r.message)
	r.reason = infrastructure.ReasonMarkedBeforeTakeover
	return r
}
