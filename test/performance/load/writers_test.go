// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	apply "metal-stack.io/infrastructure-apiserver/generated/applyconfiguration/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	typed "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// writer is a client that writes, and now and then reads: to objects that
// every writer writes to and none deletes, and to some of its own. So nothing
// that it asks for may be missing.
type writer struct {
	id         int
	client     versioned.Interface
	random     *rand.Rand
	pace       *rate.Limiter
	outcomes   *outcomes
	deliveries *deliveries
	written    int
}

const (
	// contested are the objects that writers get in each other's way at.
	contested = 10
	// callLimit is how long a client waits for an answer.
	callLimit = 90 * time.Second
)

// hot is how many of the lasting objects are written to: a fleet is mostly at
// rest.
func hot() int { return max(contested, *objects/5) }

// write writes until ctx ends.
func (w *writer) write(ctx context.Context) {
	for w.pace.Wait(ctx) == nil {
		w.step()
	}
}

func (w *writer) step() {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	i := w.random.IntN(hot())
	name, machines := lasting(i), w.machines(i)
	switch n := w.random.IntN(100); {
	case n < 25:
		w.note(w.patch(ctx, "label", machines, name, "labels", "load/step", strconv.Itoa(w.written)))
	case n < 45:
		w.note(w.patch(ctx, "annotate", machines, name, "annotations", "load/text", draw(w.random)))
	case n < 60:
		m := apply.MetalStackMachine(name, namespace(i)).WithAnnotations(map[string]string{"load/applied": draw(w.random)})
		applied, err := machines.Apply(ctx, m, metav1.ApplyOptions{FieldManager: "load", Force: true})
		w.note("apply", applied, err)
	case n < 75:
		i %= contested
		w.swap(ctx, w.machines(i), lasting(i))
	case n < 85:
		w.lifetime(ctx)
	case n < 95:
		_, err := machines.Get(ctx, name, metav1.GetOptions{})
		w.outcomes.note("get", err)
	default:
		_, err := machines.List(ctx, metav1.ListOptions{Limit: 100})
		w.outcomes.note("list", err)
	}
}

func (w *writer) machines(i int) typed.MetalStackMachineInterface {
	return w.client.InfrastructureV1alpha4().MetalStackMachines(namespace(i))
}

// note counts a write; m is what the server answered.
func (w *writer) note(verb string, m *v1alpha4.MetalStackMachine, err error) bool {
	if !w.outcomes.note(verb, err) {
		return false
	}
	w.written++
	revision, _ := strconv.ParseUint(m.ResourceVersion, 10, 64)
	w.deliveries.acknowledged(revision, m.Namespace)
	return true
}

func (w *writer) patch(ctx context.Context, verb string, machines typed.MetalStackMachineInterface, name, field, key, value string) (string, *v1alpha4.MetalStackMachine, error) {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{field: map[string]string{key: value}}})
	if err != nil {
		return verb, nil, err
	}
	m, err := machines.Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{})
	return verb, m, err
}

// swap changes an object that others change, too, by compare-and-swap: what was
// read from the view may be old, and is read again after a conflict.
func (w *writer) swap(ctx context.Context, machines typed.MetalStackMachineInterface, name string) {
	for range 10 {
		m, err := machines.Get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
		if !w.outcomes.note("get from the view", err) {
			return
		}
		metav1.SetMetaDataAnnotation(&m.ObjectMeta, "load/swapped", strconv.Itoa(w.id)+"-"+strconv.Itoa(w.written))
		m, err = machines.Update(ctx, m, metav1.UpdateOptions{})
		if w.note("update", m, err) {
			return
		}
	}
}

// lifetime is an object that comes, changes and goes, without any metal.
func (w *writer) lifetime(ctx context.Context) {
	machines, name := w.machines(w.id), fmt.Sprintf("mine-%d-%d", w.id, w.written)
	m, err := machines.Create(ctx, claim(name, nil), metav1.CreateOptions{})
	if !w.note("create", m, err) || !w.note(w.patch(ctx, "label", machines, name, "labels", "load/step", "1")) {
		return
	}
	w.remove(ctx, machines, name)
}

// remove deletes an object and takes its finalizers off, as the controller
// manager does when no metal is held any more.
func (w *writer) remove(ctx context.Context, machines typed.MetalStackMachineInterface, name string) {
	if !w.outcomes.note("delete", machines.Delete(ctx, name, metav1.DeleteOptions{})) {
		return
	}
	_, err := machines.Patch(ctx, name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	w.outcomes.note("remove finalizer", err)
}

// allocate turns claims into metal and back until ctx ends, asking again
// whatever the server says, as the controller manager does. It returns the
// uids of the objects that it asked metal for, and whether their metal was
// given back.
func (w *writer) allocate(ctx context.Context, cluster string) map[types.UID]bool {
	uids := map[types.UID]bool{}
	machines := w.machines(w.id)
	for n := 0; ctx.Err() == nil; n++ {
		name := fmt.Sprintf("held-%d-%d", w.id, n)
		m, err := machines.Create(ctx, claim(name, nil), metav1.CreateOptions{})
		if !w.outcomes.note("create", err) {
			continue
		}
		uids[m.UID] = false
		w.insist(ctx, "allocate", func(ctx context.Context) error {
			_, err := machines.Allocate(ctx, name, &v1alpha4.Allocation{ClusterRef: &v1alpha4.LocalReference{Name: cluster}}, metav1.CreateOptions{})
			return err
		})
		w.insist(ctx, "release", func(ctx context.Context) error {
			return w.client.InfrastructureV1alpha4().RESTClient().Delete().Namespace(m.Namespace).Resource("metalstackmachines").
				Name(name).SubResource("allocation").Do(ctx).Error()
		})
		if ctx.Err() == nil {
			uids[m.UID] = true
			w.remove(ctx, machines, name)
		}
	}
	return uids
}

// insist asks until it is answered that it is done.
func (w *writer) insist(ctx context.Context, verb string, ask func(context.Context) error) {
	pause := time.NewTicker(time.Second)
	defer pause.Stop()
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, callLimit)
		err := ask(call)
		cancel()
		if ctx.Err() != nil && err != nil {
			err = errors.Join(context.Canceled, err)
		}
		if w.outcomes.note(verb, err) {
			return
		}
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
	}
}

// newWriter is a client with a connection of its own.
func newWriter(s *server, id int, pace *rate.Limiter, o *outcomes, d *deliveries) *writer {
	return &writer{
		id: id, pace: pace, outcomes: o, deliveries: d, random: rand.New(rand.NewPCG(*seed, uint64(id))),
		client: s.client(counted(o)),
	}
}
