// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	metainternalversion "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

const (
	clusters  = "metalstackclusters"
	machines  = "metalstackmachines"
	firewalls = "metalstackfirewalls"
)

var (
	resources = []string{clusters, firewalls, machines}

	errNoServer = errors.New("no server answers")
	errLost     = errors.New("the connection was lost")
)

// requestLimit is how long a client waits.
const requestLimit = 34 * time.Second

// call makes a request of whichever server the Service leads to. Once that is
// dead the connection is lost.
func call[T any](env *environment, what string, do func(ctx context.Context, s *server) (T, error)) (T, error) {
	var none T
	s := env.active()
	if s == nil {
		return none, errNoServer
	}
	type outcome struct {
		value T
		err   error
	}
	answers := make(chan outcome, 1)
	ctx, cancel := context.WithTimeout(context.Background(), requestLimit)
	go func() {
		defer cancel()
		o := outcome{err: errLost}
		defer func() { answers <- o }()
		o.value, o.err = do(asClient(ctx), s)
	}()
	select {
	case <-s.ctx.Done():
		return none, errLost
	case o := <-answers:
		if s.ctx.Err() != nil {
			return none, errLost
		}
		if o.err != nil {
			env.secrets.search("the answer to "+what, fmt.Appendf(nil, "%v %#v", o.err, o.err))
		}
		return o.value, o.err
	}
}

func asClient(ctx context.Context) context.Context {
	ctx = request.WithNamespace(ctx, teamA)
	return request.WithUser(ctx, &user.DefaultInfo{Name: "admin"})
}

func (s *server) main(resource string) *registry.REST { return s.storage[resource].(*registry.REST) }

func (env *environment) create(resource, name string) error {
	return env.createObject(resource, name, newObject(resource, name))
}

func (env *environment) createObject(resource, name string, obj runtime.Object) error {
	q := env.journal.ask()
	obj, err := call(env, "create "+name, func(ctx context.Context, s *server) (runtime.Object, error) {
		return s.main(resource).Create(ctx, obj, rest.ValidateAllObjectFunc, &metav1.CreateOptions{})
	})
	if err == nil {
		env.journal.created(q, resource, obj.(metav1.Object))
	}
	return err
}

// patch adds an annotation of its own to an object, and to a hosted cluster its endpoint.
func (env *environment) patch(resource, name, mark string) error {
	q := env.journal.ask()
	obj, err := call(env, "patch "+name, func(ctx context.Context, s *server) (runtime.Object, error) {
		return update(ctx, s, resource, name, func(obj metav1.Object) {
			annotations := obj.GetAnnotations()
			if annotations == nil {
				annotations = map[string]string{}
			}
			annotations[mark] = "done"
			obj.SetAnnotations(annotations)
			if c, ok := obj.(*infrastructure.MetalStackCluster); ok && !c.Spec.AllocatesEndpoint() {
				c.Spec.ControlPlaneEndpoint = infrastructure.APIEndpoint{Host: env.endpointOfOthers(), Port: 443}
			}
		})
	})
	if err == nil {
		env.journal.patched(q, mark, obj.(metav1.Object))
	}
	return err
}

// endpointOfOthers is an address that another cluster, or an administrator, may have.
func (env *environment) endpointOfOthers() string {
	for _, ip := range env.sim.Inventory().IPs {
		if ip.Project != "" {
			return ip.Address
		}
	}
	return "api.example.org"
}

func update(ctx context.Context, s *server, resource, name string, change func(metav1.Object)) (runtime.Object, error) {
	info := rest.DefaultUpdatedObjectInfo(nil, func(_ context.Context, _, old runtime.Object) (runtime.Object, error) {
		obj := old.DeepCopyObject()
		change(obj.(metav1.Object))
		return obj, nil
	})
	obj, _, err := s.main(resource).Update(ctx, name, patching{info}, rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
	return obj, err
}

// patching has no preconditions.
type patching struct{ rest.UpdatedObjectInfo }

func (patching) Preconditions() *metav1.Preconditions { return nil }

// remove deletes an object that a list shows.
func (env *environment) remove(resource, name string, uid types.UID) error {
	acknowledged := env.journal.deleting(uid)
	_, err := call(env, "delete "+name, func(ctx context.Context, s *server) (runtime.Object, error) {
		obj, _, err := s.main(resource).Delete(ctx, name, rest.ValidateAllObjectFunc, &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		return obj, err
	})
	if err == nil {
		acknowledged()
	}
	return err
}

// finish takes the finalizers off an object, as long as it is as it was seen.
func (env *environment) finish(resource string, obj metav1.Object) error {
	_, err := call(env, "finish "+obj.GetName(), func(ctx context.Context, s *server) (runtime.Object, error) {
		changed := obj.(runtime.Object).DeepCopyObject()
		changed.(metav1.Object).SetFinalizers(nil)
		info := rest.DefaultUpdatedObjectInfo(changed)
		out, _, err := s.main(resource).Update(ctx, obj.GetName(), info, rest.ValidateAllObjectFunc, rest.ValidateAllObjectUpdateFunc, false, &metav1.UpdateOptions{})
		return out, err
	})
	if err == nil {
		env.journal.ended(obj.GetUID())
	}
	return err
}

// list lists a resource; a resource version of "" is the most recent state.
func (env *environment) list(resource, resourceVersion string) (runtime.Object, error) {
	q := env.journal.ask()
	list, err := call(env, "list "+resource, func(ctx context.Context, s *server) (runtime.Object, error) {
		return s.main(resource).Store.List(ctx, &metainternalversion.ListOptions{ResourceVersion: resourceVersion})
	})
	if err == nil {
		env.journal.listed(q, resource, list)
	}
	return list, err
}

// allocate asks for the metal of an object, and release for its end.
func (env *environment) allocate(resource, name string, uid types.UID, cluster string) error {
	_, err := call(env, "allocate "+name, func(ctx context.Context, s *server) (runtime.Object, error) {
		body := &infrastructure.Allocation{ObjectMeta: metav1.ObjectMeta{Name: name, UID: uid}}
		if cluster != "" {
			body.ClusterRef, body.UserData = &infrastructure.LocalReference{Name: cluster}, []byte(userData)
		}
		return s.storage[resource+"/allocation"].(rest.NamedCreater).Create(ctx, name, body, nil, &metav1.CreateOptions{})
	})
	return err
}

func (env *environment) release(resource, name string, uid types.UID) error {
	_, err := call(env, "release "+name, func(ctx context.Context, s *server) (runtime.Object, error) {
		obj, _, err := s.storage[resource+"/allocation"].(rest.GracefulDeleter).Delete(ctx, name, nil, &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		return obj, err
	})
	return err
}
