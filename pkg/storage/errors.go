// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/recordformat"
)

// timeoutError is the error of a write of which the outcome is open: clients
// take a timeout for exactly that.
func timeoutError(message string) error { return apierrors.NewTimeoutError(message, 0) }

func unknownOutcomeError(s *Store, key string, cause error) error {
	return timeoutError(fmt.Sprintf("outcome of the write of %s %q unknown: %v; read it before retrying", s.resource, s.name(key), cause))
}

// notWrittenError is the answer to a write that the ledger certainly has not done.
func notWrittenError(s *Store, key string, cause error) error {
	message := fmt.Sprintf("%s %q was not written: %v", s.resource, s.name(key), cause)
	if errors.Is(cause, ledger.ErrTooLarge) {
		return apierrors.NewRequestEntityTooLargeError(message)
	}
	if errors.Is(cause, ledger.ErrFenced) || recordformat.IsNewer(cause) {
		return retryLaterError(message)
	}
	return apierrors.NewServiceUnavailable(message)
}

// retryLaterError is the answer to whatever certainly was not begun, because another
// process answers, or soon will. Clients come again by themselves.
func retryLaterError(message string) error {
	err := apierrors.NewServiceUnavailable(message)
	err.ErrStatus.Details = &metav1.StatusDetails{RetryAfterSeconds: 1}
	return err
}

// hiddenError is the answer to a write that would make an object in a namespace
// that is hidden. The registry admits none; the namespace was hidden since.
func (s *Store) hiddenError(key string) error {
	return retryLaterError(fmt.Sprintf("%s %q was not written: its namespace was deleted and created again", s.resource, s.name(key)))
}

// readOnlyError is the answer to writes of discovered objects.
func (s *Store) readOnlyError(e *entry) error {
	if s.kind != "" {
		return apierrors.NewForbidden(s.resource, s.name(e.key), s.whyReadOnly(e))
	}
	shown := s.describe(e.obj)
	providerID := shown.Spec.ProviderID
	if providerID == "" {
		providerID = "metal://<partition>/" + e.ref.ID
	}
	return apierrors.NewForbidden(s.resource, s.name(e.key), fmt.Errorf(
		"discovered metal is read-only: to manage it, create a %s with spec.providerID: %s; deleting the object releases nothing",
		shown.Kind, providerID))
}

// claimFields are the fields by which a record claims metal that exists, by kind.
var claimFields = map[metal.RefKind]string{metal.KindNetwork: "spec.networkID", metal.KindIP: "spec.address"}

// whyReadOnly is why an object cannot be written that is discovered and no machine.
func (s *Store) whyReadOnly(e *entry) error {
	id := e.ref.ID
	if e.origin != nil {
		id = e.origin.ID
	}
	field, claimable := claimFields[s.kind]
	if !claimable || !s.mayBeReferenced(e.ref) {
		return errors.New("discovered metal is read-only, and this is not the project's own")
	}
	shown := s.describe(e.obj)
	for _, user := range shown.Status.Users {
		if user.Kind == "MetalStackCluster" {
			return fmt.Errorf("discovered metal is read-only: %s is of MetalStackCluster %s/%s, and is released with that, unless it was adopted", id, user.Namespace, user.Name)
		}
	}
	if shown.Status.Type == metal.TypeEphemeral {
		return fmt.Errorf("discovered metal is read-only: %s is ephemeral, and is released with what uses it: see status.users", id)
	}
	return fmt.Errorf("discovered metal is read-only: to manage it, create a %s of another name with %s: %s; deleting the object releases nothing", shown.Kind, field, id)
}

// mayBeReferenced returns whether a record could refer to what is shown of ref.
func (s *Store) mayBeReferenced(ref metal.Ref) bool {
	s.backend.mu.Lock()
	defer s.backend.mu.Unlock()
	return len(s.backend.index.discoveredRefs[discoveredKey{s, ref}]) > 0
}

// description is what of a discovered object decides what the refusal of a write says.
type description struct {
	Kind   string
	Spec   struct{ ProviderID string }
	Status struct {
		Type  string
		Users []struct{ Kind, Namespace, Name string }
	}
}

func (s *Store) describe(obj runtime.Object) (shown description) {
	// A codec sets the kind of what it encodes, and obj is shared.
	if data, err := runtime.Encode(s.codec, shallowCopy(obj)); err == nil {
		_ = json.Unmarshal(data, &shown) // then the message is less exact
	}
	if shown.Kind == "" {
		shown.Kind = s.resource.String()
	}
	return shown
}
