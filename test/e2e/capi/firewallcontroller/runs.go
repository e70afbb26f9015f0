// SPDX-License-Identifier: Apache-2.0

package firewallcontroller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/retry"
)

// cached returns the Firewall of the cache; nil if it is not there.
func (c *Controller) cached() (*Firewall, error) {
	obj, err := c.firewalls.ByNamespace(c.seed.namespace).Get(c.Hostname)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decode[Firewall](obj.(*unstructured.Unstructured))
}

// runSeed does what follows from the Firewall alone. Without one, the rules go.
func (c *Controller) runSeed(ctx context.Context) error {
	f, err := c.cached()
	if err != nil {
		return err
	}
	if f == nil {
		c.Host.flush()
		return nil
	}
	if err := c.update(f); err != nil {
		return err
	}
	if f.Status.ShootAccess != nil {
		c.shoot.access.Store(f.Status.ShootAccess)
	}
	if !c.NoDistance {
		c.Host.change(func(s *HostState) { s.Distance = f.Distance })
	}
	if err := c.exposeExporters(ctx, f); err != nil {
		return err
	}
	keys := append([]string{}, f.Spec.SSHPublicKeys...)
	c.Host.change(func(s *HostState) { s.AuthorizedKeys = keys })
	c.seedRun = metav1.NewTime(c.Clock.Now())
	return nil
}

// exposeExporters makes the Services of the exporters that run on the firewall.
func (c *Controller) exposeExporters(ctx context.Context, f *Firewall) error {
	private := f.privateNetwork()
	if private == nil {
		return errors.New("firewall networks contain no private network")
	}
	if len(private.IPs) == 0 {
		return errors.New("private firewall network contains no ip")
	}
	for _, exporter := range []struct {
		name, portName string
		port           int32
	}{{"nftables-exporter", "nftexporter", 9630}, {"node-exporter", "nodeexporter", 9100}} {
		about := metav1.ObjectMeta{Namespace: WorkloadNamespace, Name: exporter.name, Labels: map[string]string{"app": exporter.name}}
		services := c.shoot.core.CoreV1().Services(WorkloadNamespace)
		spec := corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{
			Protocol: corev1.ProtocolTCP, Port: exporter.port, TargetPort: intstr.FromString(exporter.portName), Name: exporter.portName,
		}}}
		service, err := services.Get(ctx, exporter.name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			_, err = services.Create(ctx, &corev1.Service{ObjectMeta: about, Spec: spec}, metav1.CreateOptions{})
		case err == nil:
			service.Spec, service.Labels = spec, about.Labels
			_, err = services.Update(ctx, service, metav1.UpdateOptions{})
		}
		if err != nil {
			return err
		}
		//nolint:staticcheck // SA1019: what the real one uses.
		subsets := []corev1.EndpointSubset{{
			Addresses: []corev1.EndpointAddress{{IP: private.IPs[0]}},
			Ports:     []corev1.EndpointPort{{Name: exporter.portName, Port: exporter.port, Protocol: corev1.ProtocolTCP}},
		}}
		all := c.shoot.core.CoreV1().Endpoints(WorkloadNamespace)
		endpoints, err := all.Get(ctx, exporter.name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			_, err = all.Create(ctx, &corev1.Endpoints{ObjectMeta: about, Subsets: subsets}, metav1.CreateOptions{}) //nolint:staticcheck // SA1019
		case err == nil:
			endpoints.Subsets = subsets
			_, err = all.Update(ctx, endpoints, metav1.UpdateOptions{})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// runShoot makes the rules. Without a Firewall they stay what they are.
func (c *Controller) runShoot(ctx context.Context) error {
	f, err := c.cached()
	if f == nil || err != nil {
		return err
	}
	policies, err := c.listPolicies()
	if err != nil {
		return err
	}
	services, err := c.listServices()
	if err != nil {
		return err
	}
	valid, ignored, err := divide(policies, f.Spec.AllowedNetworks)
	if err != nil {
		return err
	}
	for _, p := range ignored {
		if err := c.setState(ctx, p, stateIgnored, outside); err != nil {
			return err
		}
	}
	rules, err := render(f, valid, services)
	if err != nil {
		return err
	}
	if f.Spec.DryRun || !c.Host.setRules(rules, f.Spec.DNSServerAddress) {
		return nil
	}
	for _, p := range valid {
		if err := c.setState(ctx, p, stateDeployed, ""); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) listPolicies() ([]*Policy, error) {
	list, err := c.policies.ByNamespace(WorkloadNamespace).List(labels.Everything())
	if err != nil {
		return nil, err
	}
	var policies []*Policy
	for _, obj := range list {
		p, err := decode[Policy](obj.(*unstructured.Unstructured))
		if err != nil {
			return nil, err
		}
		policies = append(policies, p)
	}
	slices.SortFunc(policies, func(a, b *Policy) int { return strings.Compare(a.Name, b.Name) })
	return policies, nil
}

func (c *Controller) listServices() ([]corev1.Service, error) {
	list, err := c.services.List(labels.Everything())
	if err != nil {
		return nil, err
	}
	services := make([]corev1.Service, len(list))
	for i, obj := range list {
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.(*unstructured.Unstructured).Object, &services[i]); err != nil {
			return nil, err
		}
	}
	return services, nil
}

func (c *Controller) setState(ctx context.Context, p *Policy, state, message string) error {
	p.Status.State, p.Status.Message = state, message
	fields, err := toMap(p)
	if err != nil {
		return err
	}
	_, err = c.shoot.objects.Resource(Policies).Namespace(p.Namespace).UpdateStatus(ctx, &unstructured.Unstructured{Object: fields}, metav1.UpdateOptions{})
	if err != nil {
		return fmt.Errorf("failed to update status of CWNP %q to %q: %w", p.Name, state, err)
	}
	return nil
}

// report writes what is so to the FirewallMonitor, if there is one.
func (c *Controller) report(ctx context.Context) error {
	monitors := c.shoot.objects.Resource(Monitors).Namespace(WorkloadNamespace)
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		monitor, err := monitors.Get(ctx, c.Hostname, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("error retrieving resource: %w", err)
		}
		if monitor.GetDeletionTimestamp() != nil {
			return nil
		}
		now := c.Clock.Now()
		status := controllerStatus{
			Message: fmt.Sprintf("updated firewall monitor resource at %s", now), ControllerVersion: c.Host.Version(),
			LastRun: metav1.NewTime(now), LastSeedRun: c.seedRun,
			Stats: stats{
				Rules:   map[string]map[string]rule{"accept": {"accept established connections": {}}},
				Devices: map[string]device{"vlan104009": {In: 1, Out: 1}}, IDS: map[string]ids{},
			},
		}
		if !c.NoDistance {
			status.Distance, status.DistanceSupported = c.Host.State().Distance, true
		}
		fields, err := toMap(status)
		if err != nil {
			return err
		}
		monitor.Object["controllerStatus"] = fields
		_, err = monitors.Update(ctx, monitor, metav1.UpdateOptions{})
		return err
	})
}

func toMap(value any) (map[string]any, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	return fields, json.Unmarshal(text, &fields)
}
