// SPDX-License-Identifier: Apache-2.0

// Package ownerref resolves an owner reference to a state, given the result of the
// lookup. Both programs do so before metal is released: the server when the garbage
// collector deletes an object, the controller manager in each reconcile. How they look
// up an owner, and what follows from its state, is theirs to decide.
package ownerref

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// State is the state of an owner.
type State int

const (
	// Unknown means that the lookup failed: nothing is known about the owner.
	Unknown State = iota
	// Missing means that there is no object of that name, or with another uid than the
	// reference, because it was replaced or restored.
	Missing
	// Present means that the owner exists, and is not being deleted.
	Present
	// Deleting means that the owner exists, and is being deleted.
	Deleting
)

// Resolve returns the state of the owner that ref names, and its description for
// messages, given what the lookup of that kind and name returned. A reference without
// a uid is satisfied by any object of its name.
func Resolve(ref metav1.OwnerReference, found metav1.Object, err error) (state State, description string) {
	what := ref.Kind + " " + ref.Name
	switch {
	case apierrors.IsNotFound(err) && ref.UID != "":
		return Missing, fmt.Sprintf("%s (uid %s) not found", what, ref.UID)
	case apierrors.IsNotFound(err):
		return Missing, what + " not found"
	case err != nil:
		return Unknown, fmt.Sprintf("%s: %v", what, err)
	case ref.UID != "" && found.GetUID() != ref.UID:
		return Missing, fmt.Sprintf("%s has uid %s, the ownerReference has %s", what, found.GetUID(), ref.UID)
	case found.GetDeletionTimestamp() != nil:
		return Deleting, what + " is being deleted"
	}
	return Present, what + " is not being deleted"
}
