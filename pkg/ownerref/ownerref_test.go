// SPDX-License-Identifier: Apache-2.0

package ownerref

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestResolve_ComparesOwnersByUID(t *testing.T) {
	t.Parallel()
	now := metav1.Now()
	byUID := metav1.OwnerReference{Kind: "Machine", Name: "m", UID: "1"}
	byName := metav1.OwnerReference{Kind: "Cluster", Name: "c"}
	notFound := apierrors.NewNotFound(schema.GroupResource{Resource: "machines"}, "m")
	for name, c := range map[string]struct {
		ref         metav1.OwnerReference
		found       *metav1.ObjectMeta
		err         error
		state       State
		description string
	}{
		"present":                       {byUID, &metav1.ObjectMeta{UID: "1"}, nil, Present, "Machine m is not being deleted"},
		"being deleted":                 {byUID, &metav1.ObjectMeta{UID: "1", DeletionTimestamp: &now}, nil, Deleting, "Machine m is being deleted"},
		"other uid":                     {byUID, &metav1.ObjectMeta{UID: "2"}, nil, Missing, "Machine m has uid 2, the ownerReference has 1"},
		"other uid, being deleted":      {byUID, &metav1.ObjectMeta{UID: "2", DeletionTimestamp: &now}, nil, Missing, "Machine m has uid 2, the ownerReference has 1"},
		"no uid of an object":           {byUID, &metav1.ObjectMeta{}, nil, Missing, "Machine m has uid , the ownerReference has 1"},
		"not found":                     {byUID, &metav1.ObjectMeta{}, notFound, Missing, "Machine m (uid 1) not found"},
		"unreadable":                    {byUID, &metav1.ObjectMeta{UID: "1", DeletionTimestamp: &now}, errors.New("connection refused"), Unknown, "Machine m: connection refused"},
		"by name, present":              {byName, &metav1.ObjectMeta{UID: "3"}, nil, Present, "Cluster c is not being deleted"},
		"by name, being deleted":        {byName, &metav1.ObjectMeta{UID: "3", DeletionTimestamp: &now}, nil, Deleting, "Cluster c is being deleted"},
		"by name, not found":            {byName, nil, notFound, Missing, "Cluster c not found"},
		"by name, forbidden to read it": {byName, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "clusters"}, "c", nil), Unknown, `Cluster c: clusters "c" is forbidden: <nil>`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state, description := Resolve(c.ref, c.found, c.err)
			assert.Equal(t, c.state, state)
			assert.Equal(t, c.description, description)
		})
	}
}
