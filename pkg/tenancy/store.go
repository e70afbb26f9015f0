// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/recordformat"
)

// recordKey is the record of the bindings that are in force. All are in one,
// so that two servers cannot give one project to two namespaces.
const recordKey = "_meta/bindings"

// ledgerTimeout is how long one call of the ledger may take.
const ledgerTimeout = 10 * time.Second

// record is the value at recordKey.
type record struct {
	// Format is that of the record (pkg/recordformat).
	Format int `json:"format"`
	// Namespaces are the projects by namespace.
	Namespaces map[string]string `json:"namespaces"`
	// UIDs are the uids of the Namespaces that are bound, by name.
	UIDs map[string]types.UID `json:"uids,omitempty"`
	// TakenOver is when Namespaces took over the records of earlier ones of their
	// names, by name.
	TakenOver map[string]time.Time `json:"takenOver,omitempty"`
}

// bindingStore is what is written down of the bindings.
type bindingStore struct {
	ledger ledger.Ledger
	// inForce is what the record says, as of version, which is "" if there is
	// none; read is false if it is not known what it says.
	inForce map[string]binding
	version string
	loaded  bool
}

// load reads the record, unless it is known.
func (b *bindingStore) load(ctx context.Context) error {
	if b.loaded {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	r, err := b.ledger.Get(ctx, recordKey)
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		b.inForce, b.version = map[string]binding{}, ""
	case err != nil:
		return fmt.Errorf("failed to read the bindings: %w", err)
	default:
		inForce, err := parseRecord(r.Value)
		if recordformat.IsNewer(err) {
			return fmt.Errorf("failed to read the bindings: %w", err)
		}
		if err != nil {
			return fmt.Errorf("the record %s of the bindings is invalid; repair it, or delete it to bind namespaces by their current labels, even if one was changed while the namespace had objects: %w", recordKey, err)
		}
		b.inForce, b.version = inForce, r.Version
	}
	b.loaded = true
	return nil
}

func parseRecord(value []byte) (map[string]binding, error) {
	if err := recordformat.Check(value); err != nil {
		return nil, err
	}
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, err
	}
	if r.Namespaces == nil {
		return nil, errors.New("field namespaces is missing")
	}
	bindings, namespaceOf := map[string]binding{}, map[string]string{}
	for namespace, project := range r.Namespaces {
		if !isProjectID(project) {
			return nil, fmt.Errorf("namespace %q has %q, which is not a project id", namespace, project)
		}
		if other, taken := namespaceOf[project]; taken {
			return nil, fmt.Errorf("namespaces %q and %q have the same project", min(namespace, other), max(namespace, other))
		}
		namespaceOf[project] = namespace
		bindings[namespace] = binding{project: project, uid: r.UIDs[namespace], takenOver: r.TakenOver[namespace]}
	}
	return bindings, nil
}

// newRecord is the record of bindings.
func newRecord(bindings map[string]binding) record {
	r := record{Format: recordformat.Written, Namespaces: map[string]string{}, UIDs: map[string]types.UID{}, TakenOver: map[string]time.Time{}}
	for namespace, b := range bindings {
		r.Namespaces[namespace] = b.project
		if b.uid != "" {
			r.UIDs[namespace] = b.uid
		}
		if !b.takenOver.IsZero() {
			r.TakenOver[namespace] = b.takenOver
		}
	}
	return r
}

// save puts next in force. After an error it is read again before it is
// relied on.
func (b *bindingStore) save(ctx context.Context, next map[string]binding) error {
	value, err := json.Marshal(newRecord(next))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, ledgerTimeout)
	defer cancel()
	b.loaded = false
	version := b.version
	if version == "" {
		version, err = b.ledger.Create(ctx, recordKey, value)
	} else {
		version, err = b.ledger.Update(ctx, recordKey, version, value)
	}
	if err != nil {
		return fmt.Errorf("failed to save the bindings: %w", err)
	}
	b.inForce, b.version, b.loaded = next, version, true
	return nil
}
