package controller

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kerrors "k8s.io/apimachinery/pkg/util/errors"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/patch"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// A scope is what one reconcile knows of one object, and what it finds.
type scope struct {
	*reconciler
	request ctrl.Request
	obj     holder
	helper  *patch.Helper
	// before are the conditions that the reconcile began with.
	before []metav1.Condition

	// cluster and machine are Cluster API's; nil if there are none, or they are
	// not there yet.
	cluster *clusterv1.Cluster
	machine *clusterv1.Machine
	// infra is the MetalStackCluster of a machine or firewall.
	infra *v1alpha4.MetalStackCluster
	// userData is what a machine boots with.
	userData []byte

	// What the phases found, of which conditions are made.
	wait wait
	// lookups are how many owners may still be looked up.
	lookups int
	// pauses say why the object is paused.
	pauses []string
	// firewall is what there is to say about a cluster's firewall.
	firewall *metav1.Condition
	// gone is true after the object was let go: there is nothing to write to.
	gone bool
}

func newScope(r *reconciler, request ctrl.Request, obj holder) (*scope, error) {
	s := &scope{reconciler: r, request: request}
	for _, c := range obj.GetConditions() {
		s.before = append(s.before, *c.DeepCopy())
	}
	return s, s.take(obj)
}

// take goes on with obj, which is what the server says that the object is now.
func (s *scope) take(obj holder) (err error) {
	s.obj = obj
	s.helper, err = patch.NewHelper(obj, s.cached)
	return err
}

// persist writes a change of metadata or spec at once, because what follows
// relies on it.
func (s *scope) persist(ctx context.Context, change func(holder)) error {
	changed := s.obj.DeepCopyObject().(holder)
	change(changed)
	if err := s.cached.Patch(ctx, changed, client.MergeFrom(s.obj)); err != nil {
		return err
	}
	return s.take(changed)
}

// run does phases until one waits, fails, or there are no more.
func (s *scope) run(ctx context.Context, phases []phase) error {
	for _, phase := range phases {
		w, err := phase(ctx, s)
		if err != nil {
			return err
		}
		if w.why != "" || s.gone {
			s.wait = w
			return nil
		}
	}
	return nil
}

// close writes the conditions, and tells what is new in them.
func (s *scope) close(ctx context.Context) error {
	if s.gone {
		return nil
	}
	s.setConditions()
	err := s.helper.Patch(ctx, s.obj, patch.WithOwnedConditions{Conditions: ownedConditions})
	if err != nil {
		return ignoreGone(err)
	}
	s.tellConditions(ctx)
	return nil
}

// ignoreGone leaves out that an object is gone from what CAPI's patch helper
// says.
func ignoreGone(err error) error {
	var all kerrors.Aggregate
	if errors.As(err, &all) && kerrors.FilterOut(all, apierrors.IsNotFound) == nil {
		return nil
	}
	return err
}
