// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	infrastructureclient "metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/typed/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// pageSize is how many objects one answer to a list has at most.
const pageSize = 500

// Client reads and operates machines and firewalls of one namespace.
type Client struct {
	// Namespace is that of references.
	Namespace string

	infrastructure infrastructureclient.InfrastructureV1alpha4Interface
	core           corev1client.CoreV1Interface
	dynamic        dynamic.Interface
	clock          clock.WithTicker
	config         *rest.Config
}

// New returns a client of a server.
func New(config *rest.Config, namespace string, c clock.WithTicker) (*Client, error) {
	clients, err := versioned.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", v1alpha4.GroupName, err)
	}
	core, err := corev1client.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client of Events: %w", err)
	}
	others, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client of owners: %w", err)
	}
	return &Client{Namespace: namespace, infrastructure: clients.InfrastructureV1alpha4(), core: core, dynamic: others, clock: c, config: config}, nil
}

// Get reads a machine or firewall.
func (c *Client) Get(ctx context.Context, ref Reference) (*Object, error) {
	var obj runtime.Object
	var err error
	if ref.Kind == Firewall {
		obj, err = c.infrastructure.MetalStackFirewalls(c.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	} else {
		obj, err = c.infrastructure.MetalStackMachines(c.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	}
	if err != nil {
		return nil, c.explain(ctx, err, ref, "")
	}
	return fromRuntime(obj), nil
}

// Query is what a list covers.
type Query struct {
	// AllNamespaces lists more than the client's namespace.
	AllNamespaces bool
	Selector      string
	Kinds         []Kind
}

// List reads all objects that a query covers, in the order of their namespaces, kinds and names.
func (c *Client) List(ctx context.Context, q Query) ([]*Object, error) {
	namespace := c.Namespace
	if q.AllNamespaces {
		namespace = metav1.NamespaceAll
	}
	var all []*Object
	for _, kind := range q.Kinds {
		opts := metav1.ListOptions{LabelSelector: q.Selector, Limit: pageSize}
		for {
			page, list, err := c.list(ctx, kind, namespace, opts)
			if err != nil {
				return nil, c.explain(ctx, err, Reference{Kind: kind}, "")
			}
			all = append(all, page...)
			if opts.Continue = list.Continue; opts.Continue == "" {
				break
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *Object) int { return strings.Compare(a.Namespace, b.Namespace) })
	return all, nil
}

func (c *Client) list(ctx context.Context, kind Kind, namespace string, opts metav1.ListOptions) ([]*Object, metav1.ListMeta, error) {
	if kind == Firewall {
		list, err := c.infrastructure.MetalStackFirewalls(namespace).List(ctx, opts)
		if err != nil {
			return nil, metav1.ListMeta{}, err
		}
		page := make([]*Object, len(list.Items))
		for i := range list.Items {
			page[i] = fromFirewall(&list.Items[i])
		}
		return page, list.ListMeta, nil
	}
	list, err := c.infrastructure.MetalStackMachines(namespace).List(ctx, opts)
	if err != nil {
		return nil, metav1.ListMeta{}, err
	}
	page := make([]*Object, len(list.Items))
	for i := range list.Items {
		page[i] = fromMachine(&list.Items[i])
	}
	return page, list.ListMeta, nil
}

func (c *Client) watch(ctx context.Context, kind Kind, opts metav1.ListOptions) (watch.Interface, error) {
	if kind == Firewall {
		return c.infrastructure.MetalStackFirewalls(c.Namespace).Watch(ctx, opts)
	}
	return c.infrastructure.MetalStackMachines(c.Namespace).Watch(ctx, opts)
}

// Create creates an object that one of the kinds stands for, and returns the server's.
func (c *Client) Create(ctx context.Context, obj runtime.Object, dryRun bool) (*Object, error) {
	opts := metav1.CreateOptions{FieldManager: fieldManager, DryRun: dryRunOf(dryRun)}
	var created runtime.Object
	var err error
	ref := Reference{Kind: Machine}
	switch o := obj.(type) {
	case *v1alpha4.MetalStackMachine:
		created, err = c.infrastructure.MetalStackMachines(c.Namespace).Create(ctx, o, opts)
	case *v1alpha4.MetalStackFirewall:
		ref.Kind = Firewall
		created, err = c.infrastructure.MetalStackFirewalls(c.Namespace).Create(ctx, o, opts)
	default:
		return nil, fmt.Errorf("%T is neither a machine nor a firewall", obj)
	}
	switch {
	case err != nil && dryRun:
		return nil, c.explain(ctx, err, ref, "")
	case err != nil:
		return nil, c.explainChange(ctx, err, ref, "")
	}
	return fromRuntime(created), nil
}

// Events reads the Events of an object, the oldest first.
func (c *Client) Events(ctx context.Context, o *Object) ([]corev1.Event, error) {
	list, err := c.core.Events(o.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("involvedObject.uid", string(o.UID)).String(),
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(list.Items, func(a, b corev1.Event) int { return LastSeen(&a).Compare(LastSeen(&b)) })
	return list.Items, nil
}

// Namespaces reads the names of namespaces, for completion.
func (c *Client) Namespaces(ctx context.Context) ([]string, error) {
	list, err := c.core.Namespaces().List(ctx, metav1.ListOptions{Limit: pageSize})
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list.Items))
	for i := range list.Items {
		names[i] = list.Items[i].Name
	}
	return names, nil
}
