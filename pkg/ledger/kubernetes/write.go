// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

// Create implements ledger.Ledger.
func (l *Ledger) Create(ctx context.Context, key string, value []byte) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	version, err := l.create(ctx, key, value)
	if err != nil {
		return "", wrap(ctx, verbCreate, key, err)
	}
	return version, nil
}

func (l *Ledger) create(ctx context.Context, key string, value []byte) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	cm, err := configMap(l.namespace, key, value, rand.Text())
	if err != nil {
		return "", err
	}
	a := l.send(ctx, verbCreate, func() *rest.Request { return l.post(cm) })
	switch {
	case a.outcome == done:
		return versionOf(a.cm), nil
	case a.outcome == refused:
		return l.resolveExisting(ctx, key, cm)
	}
	return "", a.failure()
}

// resolveExisting finds out who has the name.
func (l *Ledger) resolveExisting(ctx context.Context, key string, mine *corev1.ConfigMap) (string, error) {
	found, err := l.get(ctx, mine.Name)
	switch {
	case err != nil:
		return "", fmt.Errorf("record exists, unknown whether by this write: %w", err)
	case found == nil: // by now
		return "", ledger.ErrExists
	case sameWrite(found, mine):
		recovered.WithLabelValues(verbCreate).Inc()
		return versionOf(found), nil
	}
	// The answer "exists" must only be given if List shows the record.
	_, labelled := found.Labels[RecordLabel]
	if labelled && keyOf(found) == key {
		return "", ledger.ErrExists
	}
	return "", fmt.Errorf("ConfigMap %s/%s has the name of this record, but is not labelled as it: "+
		"add the label %s and the annotation %s=%s to make it the record, or delete it: %w",
		l.namespace, found.Name, RecordLabel, KeyAnnotation, key, ledger.ErrNotWritten)
}

// Update implements ledger.Ledger. Labels, annotations and everything else that
// others have set on the ConfigMap are lost with it.
func (l *Ledger) Update(ctx context.Context, key, version string, value []byte) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	newVersion, err := l.update(ctx, key, version, value)
	if err != nil {
		return "", wrap(ctx, verbUpdate, key, err)
	}
	return newVersion, nil
}

func (l *Ledger) update(ctx context.Context, key, version string, value []byte) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	cm, err := configMap(l.namespace, key, value, rand.Text())
	if err != nil {
		return "", err
	}
	cm.UID, cm.ResourceVersion = split(version)
	cm.ManagedFields = untracked
	a := l.send(ctx, verbUpdate, func() *rest.Request { return l.put(cm) })
	switch {
	case a.outcome == done && a.cm.DeletionTimestamp != nil:
		return "", ledger.ErrNotFound // it went with the finalizer that held it
	case a.outcome == done:
		return versionOf(a.cm), nil
	case a.outcome == refused:
		found, err := l.resolveConflict(ctx, cm.Name, version, a)
		if found != nil && sameWrite(found, cm) {
			recovered.WithLabelValues(verbUpdate).Inc()
			return versionOf(found), nil
		}
		return "", err
	}
	return "", a.failure()
}

// resolveConflict finds out why a write was refused: the API server answers with a
// conflict also if there is nothing to change, and of what is in between
// anything can say "not found". It returns what is there, and an error.
func (l *Ledger) resolveConflict(ctx context.Context, name, version string, a result) (*corev1.ConfigMap, error) {
	found, err := l.get(ctx, name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("record changed, unknown whether by this write: %w", err)
	case found == nil:
		return nil, ledger.ErrNotFound
	case versionOf(found) != version:
		return found, ledger.ErrConflict
	}
	a.outcome = retriable // it was refused for another reason than the version
	return found, a.failure()
}

// Delete implements ledger.Ledger.
func (l *Ledger) Delete(ctx context.Context, key, version string) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := l.delete(ctx, key, version); err != nil {
		return wrap(ctx, verbDelete, key, err)
	}
	return nil
}

func (l *Ledger) delete(ctx context.Context, key, version string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	uid, resourceVersion := split(version)
	opts := &metav1.DeleteOptions{
		Preconditions:     &metav1.Preconditions{UID: &uid, ResourceVersion: &resourceVersion},
		PropagationPolicy: ptr.To(metav1.DeletePropagationBackground),
	}
	a := l.send(ctx, verbDelete, func() *rest.Request { return l.remove(nameOf(key), opts) })
	switch {
	case a.outcome == done && a.cm != nil && a.cm.DeletionTimestamp != nil:
		return errBeingDeleted
	case a.outcome == done:
		return nil
	case a.outcome == refused:
		_, err := l.resolveConflict(ctx, nameOf(key), version, a)
		if a.wasUncertain && errors.Is(err, ledger.ErrNotFound) {
			// It went, by this write or by another's: that makes no difference.
			recovered.WithLabelValues(verbDelete).Inc()
			return nil
		}
		return err
	}
	return a.failure()
}

// untracked has the API server forget who wrote which field, and not track it for later
// updates. A record is always written as a whole, so that says nothing, and costs the
// API server an eighth of an update.
var untracked = []metav1.ManagedFieldsEntry{{}}

// sameWrite reports whether found is what mine made.
func sameWrite(found, mine *corev1.ConfigMap) bool {
	return found.Annotations[WriteAnnotation] == mine.Annotations[WriteAnnotation]
}

// impossibleUID stands for that of a version which is none of this ledger's: no object
// has it, while an empty one would be no condition at all.
const impossibleUID = "none"

func split(version string) (types.UID, string) {
	uid, resourceVersion, _ := strings.Cut(version, "/")
	if n, err := strconv.ParseUint(resourceVersion, 10, 64); uid == "" || err != nil || n == 0 {
		return impossibleUID, "1"
	}
	return types.UID(uid), resourceVersion
}

// wrap says what was being done, and that it ended with its caller's deadline
// if it did.
func wrap(ctx context.Context, verb, key string, err error) error {
	if ended := context.Cause(ctx); ended != nil && !errors.Is(err, ended) && !isDefinite(err) {
		err = fmt.Errorf("%w: %w", ended, err)
	}
	return fmt.Errorf("%s %s: %w", verb, key, err)
}

func isDefinite(err error) bool {
	for _, definite := range []error{ledger.ErrExists, ledger.ErrNotFound, ledger.ErrConflict, ledger.ErrNotWritten} {
		if errors.Is(err, definite) {
			return true
		}
	}
	return false
}
