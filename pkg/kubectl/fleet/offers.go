// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"fmt"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// catalogueViewer is the ClusterRole that grants reading partitions, sizes and images.
const catalogueViewer = "metalstack-catalogue-viewer"

// Offers are what there is to be allocated.
type Offers struct {
	Partitions []v1alpha4.MetalStackPartition
	Sizes      []v1alpha4.MetalStackSize
	// Project is that of the client's namespace; nil if it cannot be read.
	Project *v1alpha4.MetalStackProject
}

// pages reads all pages of a list.
func pages[T any](list func(metav1.ListOptions) (items []T, next string, err error)) (all []T, err error) {
	opts := metav1.ListOptions{Limit: pageSize}
	for {
		items, next, err := list(opts)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if opts.Continue = next; next == "" {
			return all, nil
		}
	}
}

// Offers reads partitions, sizes and the project.
func (c *Client) Offers(ctx context.Context) (*Offers, error) {
	o := &Offers{}
	var err error
	if o.Partitions, err = pages(func(opts metav1.ListOptions) ([]v1alpha4.MetalStackPartition, string, error) {
		page, err := c.infrastructure.MetalStackPartitions().List(ctx, opts)
		if err != nil {
			return nil, "", err
		}
		return page.Items, page.Continue, nil
	}); err != nil {
		return nil, explainCatalogue(err)
	}
	if o.Sizes, err = pages(func(opts metav1.ListOptions) ([]v1alpha4.MetalStackSize, string, error) {
		page, err := c.infrastructure.MetalStackSizes().List(ctx, opts)
		if err != nil {
			return nil, "", err
		}
		return page.Items, page.Continue, nil
	}); err != nil {
		return nil, explainCatalogue(err)
	}
	projects, err := c.infrastructure.MetalStackProjects(c.Namespace).List(ctx, metav1.ListOptions{})
	switch {
	case apierrors.IsForbidden(err):
		return o, nil
	case err != nil:
		return nil, err
	case len(projects.Items) > 0:
		o.Project = &projects.Items[0]
	}
	return o, nil
}

// Images reads the images.
func (c *Client) Images(ctx context.Context) ([]v1alpha4.MetalStackImage, error) {
	all, err := pages(func(opts metav1.ListOptions) ([]v1alpha4.MetalStackImage, string, error) {
		page, err := c.infrastructure.MetalStackImages().List(ctx, opts)
		if err != nil {
			return nil, "", err
		}
		return page.Items, page.Continue, nil
	})
	return all, explainCatalogue(err)
}

// explainCatalogue adds a hint to an error of a read of what there is.
func explainCatalogue(err error) error {
	switch {
	case apierrors.IsForbidden(err):
		return &Explained{err, fmt.Sprintf("ClusterRole that grants it: %s.", catalogueViewer)}
	case apierrors.IsNotFound(err):
		return &Explained{err, "The API server does not serve what there is to be allocated: it is older than this plugin."}
	}
	return err
}

// Wish is a machine or firewall that could be created.
type Wish struct {
	Kind                   Kind
	Size, Partition, Image string
	Networks               []string
}

// CheckCreate has the server check, in a dry run, whether the machine or firewall can be created,
// and returns what it warns of. mayCheck is false if the user may create none.
func (c *Client) CheckCreate(ctx context.Context, w Wish) (warnings []string, mayCheck bool, err error) {
	recorder := &warningRecorder{}
	config := rest.CopyConfig(c.config)
	config.WarningHandler, config.WarningHandlerWithContext = recorder, nil
	clients, err := versioned.NewForConfig(config)
	if err != nil {
		return nil, false, fmt.Errorf("client of %s: %w", v1alpha4.GroupName, err)
	}
	meta := metav1.ObjectMeta{Namespace: c.Namespace, GenerateName: "can-i-have-"}
	opts := metav1.CreateOptions{FieldManager: fieldManager, DryRun: dryRunOf(true)}
	if w.Kind == Firewall {
		_, err = clients.InfrastructureV1alpha4().MetalStackFirewalls(c.Namespace).Create(ctx, &v1alpha4.MetalStackFirewall{ObjectMeta: meta, Spec: v1alpha4.MetalStackFirewallSpec{
			MachineType: w.Size, Partition: w.Partition, Image: w.Image, Networks: w.Networks,
		}}, opts)
	} else {
		_, err = clients.InfrastructureV1alpha4().MetalStackMachines(c.Namespace).Create(ctx, &v1alpha4.MetalStackMachine{ObjectMeta: meta, Spec: v1alpha4.MetalStackMachineSpec{
			MachineType: w.Size, Partition: w.Partition, Image: w.Image, Networks: w.Networks,
		}}, opts)
	}
	if apierrors.IsForbidden(err) && strings.Contains(err.Error(), "cannot create resource") {
		return nil, false, nil
	}
	return recorder.warnings, true, err
}

// warningRecorder keeps the warnings of answers.
type warningRecorder struct {
	mu       sync.Mutex
	warnings []string
}

// HandleWarningHeader implements rest.WarningHandler.
func (r *warningRecorder) HandleWarningHeader(code int, _ string, text string) {
	const warnCode = 299
	if code != warnCode || text == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warnings = append(r.warnings, text)
}
