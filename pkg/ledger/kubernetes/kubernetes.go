// SPDX-License-Identifier: Apache-2.0

// Package kubernetes is the ledger of a server in a cluster: one ConfigMap a
// record, in the server's own namespace, so that records are backed up and
// restored with everything else, and can be read with kubectl.
//
// Versions are the uid and the resource version of the ConfigMap. Every write
// is sent with both as its condition, so any number of servers can write. They
// are as good as etcd's history is: stop the servers before etcd is restored
// from a backup, like every client that remembers resource versions.
package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
)

const (
	// listTimeout is how long a List may take, and pageTimeout how long one
	// request of it.
	listTimeout = time.Minute
	pageTimeout = 15 * time.Second
	// pageSize is how many ConfigMaps one request asks for.
	pageSize = 500
	// listAttempts is how often a List begins anew because the API server has
	// forgotten the state that it began with.
	listAttempts = 3
)

// Ledger keeps records in ConfigMaps.
type Ledger struct {
	core      typedcorev1.CoreV1Interface
	metadata  metadata.ResourceInterface // of ConfigMaps
	namespace string

	mu       sync.Mutex
	reported map[string]string // what is wrong, by name of the ConfigMap
}

var _ ledger.ChangeLister = &Ledger{}

// New returns the ledger in a namespace. It needs the rights to get, list,
// create, update and delete ConfigMaps there. config says how the API server is
// reached and who asks; limits and content types in it are not used: whoever
// waits for a record is a request that the API server let through already.
func New(config *rest.Config, namespace string) (*Ledger, error) {
	if problems := validation.IsDNS1123Label(namespace); len(problems) > 0 {
		return nil, fmt.Errorf("ledger: invalid namespace %q: %v", namespace, problems)
	}
	config = rest.CopyConfig(config)
	config.QPS, config.RateLimiter = -1, nil
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	core, err := typedcorev1.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	partial, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	registerMetrics()
	return &Ledger{
		core: core, metadata: partial.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace(namespace),
		namespace: namespace, reported: map[string]string{},
	}, nil
}

// List implements ledger.Ledger. It returns one state of the namespace,
// however many requests that takes.
func (l *Ledger) List(ctx context.Context) ([]ledger.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var records []ledger.Record
	var found []damage
	var err error
	for range listAttempts {
		if records, found, err = l.records(ctx); !apierrors.IsResourceExpired(err) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("failed to list records in namespace %s: %w", l.namespace, err)
	}
	if err := l.report(ctx, found); err != nil {
		return nil, err
	}
	sort.Slice(records, func(i, j int) bool { return records[i].Key < records[j].Key })
	return records, nil
}

// Get implements ledger.Ledger. A damaged value is returned as List returns it.
func (l *Ledger) Get(ctx context.Context, key string) (ledger.Record, error) {
	cm, err := l.get(ctx, nameOf(key))
	if err != nil {
		return ledger.Record{}, fmt.Errorf("failed to get record %s: %w", key, err)
	}
	if cm == nil {
		return ledger.Record{}, fmt.Errorf("failed to get record %s: %w", key, ledger.ErrNotFound)
	}
	if _, labelled := cm.Labels[RecordLabel]; !labelled {
		// List would not return it, either.
		return ledger.Record{}, fmt.Errorf("failed to get record %s: ConfigMap %s/%s has no label %s: %w", key, l.namespace, cm.Name, RecordLabel, ledger.ErrNotFound)
	}
	record, d := read(cm)
	if d != nil && d.kind != damagedValue {
		return ledger.Record{}, fmt.Errorf("failed to get record %s: ConfigMap %s/%s: %s", key, l.namespace, cm.Name, d.text)
	}
	return record, nil
}

// records returns what all ConfigMaps that carry the label hold, and the damage of those
// that are damaged. Later pages show the state that the first one did, which is the most
// recent one.
func (l *Ledger) records(ctx context.Context) (records []ledger.Record, found []damage, err error) {
	opts := metav1.ListOptions{LabelSelector: RecordLabel, Limit: pageSize}
	for {
		page, err := l.page(ctx, opts)
		if err != nil {
			return nil, nil, err
		}
		for i := range page.Items {
			record, d := read(&page.Items[i])
			if d != nil {
				found = append(found, *d)
			}
			if d == nil || d.kind == damagedValue {
				records = append(records, record)
			}
		}
		if opts.Continue = page.Continue; opts.Continue == "" {
			return records, found, nil
		}
	}
}

func (l *Ledger) page(ctx context.Context, opts metav1.ListOptions) (*corev1.ConfigMapList, error) {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	return l.core.ConfigMaps(l.namespace).List(ctx, opts)
}

// get returns the ConfigMap as it is now, or nil if there is none.
func (l *Ledger) get(ctx context.Context, name string) (*corev1.ConfigMap, error) {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	cm, err := l.core.ConfigMaps(l.namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return cm, nil
}

// errBeingDeleted: a user has deleted the ConfigMap, and a finalizer that is not
// ours holds it.
var errBeingDeleted = errors.New("ConfigMap is being deleted but has finalizers, which records never have: remove them")
