// SPDX-License-Identifier: Apache-2.0

package projection

import (
	"sync"
	"time"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

// readOnly is what the projectors of kinds without records have in common.
type readOnly struct{ kind metal.RefKind }

// Kind implements storage.Kinded.
func (p readOnly) Kind() metal.RefKind { return p.kind }

// Refs implements storage.Projector.
func (readOnly) Refs(runtime.Object) []metal.Ref { return nil }

// Strip implements storage.Projector.
func (readOnly) Strip(runtime.Object) {}

// Project implements storage.Projector.
func (readOnly) Project(record, _ runtime.Object) runtime.Object { return record.DeepCopyObject() }

// discoveredMeta is the metadata of an object that shows what has no record; false if its
// id is no name of an object. A different identity is a different object.
func discoveredMeta(kind metal.RefKind, namespace, name, identity string, created time.Time) (metav1.ObjectMeta, bool) {
	if name == "" || len(content.IsPathSegmentName(name)) > 0 {
		logUnnameable(kind, name)
		return metav1.ObjectMeta{}, false
	}
	object := metav1.ObjectMeta{
		Name: name, Namespace: namespace, Generation: 1,
		UID: types.UID(uuid.NewSHA1(discoveredNamespaceUUID, []byte(string(kind)+"/"+namespace+"/"+identity)).String()),
	}
	if at := toSeconds(created); at != nil {
		object.CreationTimestamp = *at
	}
	return object, true
}

// unnameable are the ids that were logged.
var unnameable sync.Map

func logUnnameable(kind metal.RefKind, id string) {
	if _, logged := unnameable.LoadOrStore(metal.Ref{Kind: kind, ID: id}, true); !logged {
		klog.Background().Info("Not shown: its id in the metal-api is no valid name of an object", "kind", kind, "id", id)
	}
}

// text is a name or a description, as a table can show it.
func text(s string) string { return oneline.Sanitize(s, oneline.MaxMessage) }
