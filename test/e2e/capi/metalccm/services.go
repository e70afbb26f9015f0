// SPDX-License-Identifier: Apache-2.0

package metalccm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/metal-stack/metal-go/api/models"
	"github.com/metal-stack/metal-lib/pkg/tag"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"
)

const (
	// cleanupFinalizer is on a Service that has an address.
	cleanupFinalizer = "service.kubernetes.io/load-balancer-cleanup"
	// poolAnnotation names the network and type of a Service's address.
	poolAnnotation = "metallb.universe.tf/address-pool"
)

func (c *Controller) serviceHandler() cache.ResourceEventHandler {
	enqueue := func(s *corev1.Service) { c.serviceQueue.Add(s.Namespace + "/" + s.Name) }
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if s := obj.(*corev1.Service); wantsAddress(s) || needsCleanup(s) {
				enqueue(s)
			}
		},
		UpdateFunc: func(was, is any) {
			old, s := was.(*corev1.Service), is.(*corev1.Service)
			changed := !apiequality.Semantic.DeepEqual(old.Spec, s.Spec) || !maps.Equal(old.Annotations, s.Annotations) || old.UID != s.UID
			if changed && (wantsAddress(s) || wantsAddress(old)) || needsCleanup(s) {
				enqueue(s)
			}
		},
	}
}

// wantsAddress says whether a Service is to have an address of this program's.
func wantsAddress(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.LoadBalancerClass == nil
}

// needsCleanup says whether a Service has an address that it must lose.
func needsCleanup(s *corev1.Service) bool {
	return slices.Contains(s.Finalizers, cleanupFinalizer) && (s.DeletionTimestamp != nil || s.Spec.Type != corev1.ServiceTypeLoadBalancer)
}

// syncService gives a Service its address, or takes it away.
func (c *Controller) syncService(ctx context.Context, key string) error {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return err
	}
	s, err := c.services.Services(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !wantsAddress(s) || needsCleanup(s) {
		if len(s.Status.LoadBalancer.Ingress) > 0 {
			if err := c.releaseAddress(ctx, s); err != nil {
				return fmt.Errorf("failed to delete load balancer: %w", err)
			}
		}
		return c.patchService(ctx, s, func(s *corev1.Service) {
			s.Finalizers = slices.DeleteFunc(s.Finalizers, func(f string) bool { return f == cleanupFinalizer })
			s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
		})
	}
	if !slices.Contains(s.Finalizers, cleanupFinalizer) {
		if err := c.patchService(ctx, s, func(s *corev1.Service) { s.Finalizers = append(s.Finalizers, cleanupFinalizer) }); err != nil {
			return err
		}
	}
	address, err := c.ensureAddress(ctx, s)
	if err != nil {
		return fmt.Errorf("failed to ensure load balancer: %w", err)
	}
	return c.patchService(ctx, s, func(s *corev1.Service) {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address}}
	})
}

// ensureAddress returns the address of a Service: the one that it names, the one that it
// has, or another one.
func (c *Controller) ensureAddress(ctx context.Context, s *corev1.Service) (string, error) {
	if s.Spec.LoadBalancerIP != "" {
		return s.Spec.LoadBalancerIP, c.useAddress(ctx, s, s.Spec.LoadBalancerIP)
	}
	if ingress := s.Status.LoadBalancer.Ingress; len(ingress) > 0 {
		return ingress[0].IP, nil
	}
	network := c.Environment.ExternalNetwork
	if pool, found := s.Annotations[poolAnnotation]; found {
		network = strings.TrimSuffix(pool, "-"+models.V1IPBaseTypeEphemeral)
	}
	if network == "" {
		return "", errors.New("no default network for ip acquisition specified")
	}
	ip, err := c.cloud.allocateIP(ctx, network, c.cloud.serviceTag(s.Namespace, s.Name))
	if err != nil {
		return "", err
	}
	address := *ip.Ipaddress
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		s, err := c.Client.CoreV1().Services(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		s.Spec.LoadBalancerIP = address
		_, err = c.Client.CoreV1().Services(s.Namespace).Update(ctx, s, metav1.UpdateOptions{})
		return err
	})
	if err == nil {
		err = c.announce(ctx, c.announcing())
	}
	if err != nil {
		// The Service keeps the address in its spec all the same.
		c.Logf("error while trying to ensure load balancer, rolling back ip acquisition: %v", err)
		rollback := c.cloud.updateIPTags(ctx, address, []string{})
		if rollback == nil {
			rollback = c.cloud.freeIP(ctx, address)
		}
		return "", errors.Join(err, rollback)
	}
	return address, nil
}

// useAddress tags an address of the project for a Service, and no other address.
func (c *Controller) useAddress(ctx context.Context, s *corev1.Service, address string) error {
	ip, err := c.cloud.projectIP(ctx, address)
	if err != nil {
		return err
	}
	serviceTag := c.cloud.serviceTag(s.Namespace, s.Name)
	others, err := c.cloud.findIPs(ctx, models.V1IPFindRequest{Tags: []string{serviceTag}})
	if err != nil {
		return err
	}
	others = slices.DeleteFunc(others, func(other *models.V1IPResponse) bool { return *other.Ipaddress == address })
	if err := c.removeTag(ctx, serviceTag, others); err != nil {
		return err
	}
	for _, key := range []string{tag.MachineID, tag.ClusterEgress} {
		if _, used := tag.NewTagMap(ip.Tags).Value(key); used {
			return fmt.Errorf("ip is used for other purposes, can not use it for a service, ip tags: %v", ip.Tags)
		}
	}
	// If the tag is there already, it is twice in the request.
	return c.cloud.updateIPTags(ctx, address, append(ip.Tags, serviceTag))
}

// releaseAddress takes the tag of a Service off its addresses.
func (c *Controller) releaseAddress(ctx context.Context, s *corev1.Service) error {
	serviceTag := c.cloud.serviceTag(s.Namespace, s.Name)
	ips, err := c.cloud.findIPs(ctx, models.V1IPFindRequest{Tags: []string{serviceTag}})
	if err != nil {
		return err
	}
	return c.removeTag(ctx, serviceTag, ips)
}

// removeTag takes a tag off addresses. Ephemeral ones that have no other are freed.
func (c *Controller) removeTag(ctx context.Context, serviceTag string, ips []*models.V1IPResponse) error {
	for _, ip := range ips {
		left := slices.DeleteFunc(slices.Clone(ip.Tags), func(t string) bool { return t == serviceTag })
		var err error
		if *ip.Type == models.V1IPBaseTypeEphemeral && len(left) == 0 {
			err = c.cloud.freeIP(ctx, *ip.Ipaddress)
		} else {
			err = c.cloud.updateIPTags(ctx, *ip.Ipaddress, append([]string{}, left...))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// updateServices configures the announcements anew for each Service that has an address.
func (c *Controller) updateServices(ctx context.Context) error {
	all, err := c.services.List(everything)
	if err != nil {
		return err
	}
	for _, s := range all {
		if wantsAddress(s) && len(s.Status.LoadBalancer.Ingress) > 0 {
			if err := c.announce(ctx, c.announcing()); err != nil {
				c.Logf("failed to update load balancer of service %s/%s: %v", s.Namespace, s.Name, err)
			}
		}
	}
	return nil
}

// announcing are the Nodes that serve Services.
func (c *Controller) announcing() []*corev1.Node {
	all, err := c.allNodes()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(node *corev1.Node) bool {
		_, excluded := node.Labels[corev1.LabelNodeExcludeBalancers]
		return excluded || node.Spec.ProviderID == ""
	})
}

// patchService changes finalizers and status of a Service.
func (c *Controller) patchService(ctx context.Context, s *corev1.Service, change func(*corev1.Service)) error {
	changed := s.DeepCopy()
	change(changed)
	if apiequality.Semantic.DeepEqual(s, changed) {
		return nil
	}
	before, err := json.Marshal(s)
	if err != nil {
		return err
	}
	after, err := json.Marshal(changed)
	if err != nil {
		return err
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Service{})
	if err != nil {
		return err
	}
	_, err = c.Client.CoreV1().Services(s.Namespace).Patch(ctx, s.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
