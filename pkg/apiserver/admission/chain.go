// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"io"

	"k8s.io/apiserver/pkg/admission"
	admissionmetrics "k8s.io/apiserver/pkg/admission/metrics"
	"k8s.io/apiserver/pkg/admission/plugin/resourcequota"
)

// noConfig is the configuration of plugins: none has one.
type noConfig struct{}

// ConfigFor implements admission.ConfigProvider.
func (noConfig) ConfigFor(string) (io.Reader, error) { return nil, nil }

// Chain returns the admission of the server: policies and webhooks in Kubernetes' order, those
// that mutate once more if their reinvocationPolicy says so, and then quotas, so that what is
// refused uses nothing of them.
func (a *Admission) Chain(quotas admission.Interface) (admission.Interface, error) {
	plugins := admission.NewPlugins()
	var names []string
	register := func(name string, plugin admission.Interface) {
		names = append(names, name)
		plugins.Register(name, func(io.Reader) (admission.Interface, error) { return plugin, nil })
	}
	for _, p := range a.plugins {
		if p.mutates {
			register(p.name, mutator{p})
		} else {
			register(p.name, validator{p})
		}
	}
	if quotas != nil {
		register(resourcequota.PluginName, quotas)
	}
	chain, err := plugins.NewFromPlugins(names, noConfig{}, admission.PluginInitializers{}, admission.DecoratorFunc(admissionmetrics.WithControllerMetrics))
	if err != nil {
		return nil, fmt.Errorf("failed to set up admission: %w", err)
	}
	return admissionmetrics.WithStepMetrics(chain), nil
}
