// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

func remediation(changes ...func(*infrastructure.MetalStackRemediation)) *infrastructure.MetalStackRemediation {
	r := &infrastructure.MetalStackRemediation{ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "workers-1", ResourceVersion: "1"}}
	r.Spec.Strategy = infrastructure.RemediationStrategy{
		Type: infrastructure.RemediationReboot, RetryLimit: 2, Timeout: &metav1.Duration{Duration: 10 * time.Minute},
	}
	for _, change := range changes {
		change(r)
	}
	return r
}

func TestValidateRemediation_StrategyIsBounded(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		change func(*infrastructure.RemediationStrategy)
		want   []string
	}{
		"valid":    {func(*infrastructure.RemediationStrategy) {}, nil},
		"empty":    {func(s *infrastructure.RemediationStrategy) { *s = infrastructure.RemediationStrategy{} }, nil},
		"smallest": {func(s *infrastructure.RemediationStrategy) { s.RetryLimit, s.Timeout.Duration = 1, time.Minute }, nil},
		"largest":  {func(s *infrastructure.RemediationStrategy) { s.RetryLimit, s.Timeout.Duration = 10, 24*time.Hour }, nil},
		"type":     {func(s *infrastructure.RemediationStrategy) { s.Type = "Reinstall" }, []string{`strategy.type: Unsupported value: "Reinstall": supported values: "Reboot"`}},
		"long type": {func(s *infrastructure.RemediationStrategy) {
			s.Type = infrastructure.RemediationStrategyType(strings.Repeat("x", 64))
		}, []string{"strategy.type: Too long"}},
		"few":         {func(s *infrastructure.RemediationStrategy) { s.RetryLimit = -1 }, []string{"strategy.retryLimit: Invalid value: -1: must be between 1 and 10, inclusive"}},
		"many":        {func(s *infrastructure.RemediationStrategy) { s.RetryLimit = 11 }, []string{"strategy.retryLimit: Invalid value: 11: must be between 1 and 10, inclusive"}},
		"no time":     {func(s *infrastructure.RemediationStrategy) { s.Timeout.Duration = 0 }, []string{`strategy.timeout: Invalid value: "0s": must be between 1m and 24h, inclusive`}},
		"little time": {func(s *infrastructure.RemediationStrategy) { s.Timeout.Duration = 59 * time.Second }, []string{"strategy.timeout: Invalid value"}},
		"much time":   {func(s *infrastructure.RemediationStrategy) { s.Timeout.Duration = 25 * time.Hour }, []string{"strategy.timeout: Invalid value"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prefixed := func(prefix string) (all []string) {
				for _, want := range test.want {
					all = append(all, prefix+want)
				}
				return all
			}
			r := remediation()
			test.change(&r.Spec.Strategy)
			says(t, ValidateRemediation(r), prefixed("spec.")...)
			template := &infrastructure.MetalStackRemediationTemplate{ObjectMeta: r.ObjectMeta}
			template.Spec.Template.Spec = r.Spec
			says(t, ValidateRemediationTemplate(template), prefixed("spec.template.spec.")...)
		})
	}
}

func TestValidateRemediationUpdate_SpecIsImmutable(t *testing.T) {
	t.Parallel()

	more := func(r *infrastructure.MetalStackRemediation) { r.Spec.Strategy.RetryLimit++ }
	says(t, ValidateRemediationUpdate(remediation(), remediation()))
	says(t, ValidateRemediationUpdate(remediation(more), remediation()), "spec: Forbidden: the strategy of a remediation cannot be changed")

	template := func(changes ...func(*infrastructure.MetalStackRemediation)) *infrastructure.MetalStackRemediationTemplate {
		r := remediation(changes...)
		t := &infrastructure.MetalStackRemediationTemplate{ObjectMeta: r.ObjectMeta}
		t.Spec.Template.Spec = r.Spec
		return t
	}
	says(t, ValidateRemediationTemplateUpdate(template(), template(), false))
	says(t, ValidateRemediationTemplateUpdate(template(more), template(), false), "spec: Forbidden: a template cannot be changed")
	asked := template(more)
	asked.Annotations = map[string]string{infrastructure.TopologyDryRunAnnotation: ""}
	says(t, ValidateRemediationTemplateUpdate(asked, template(), true))
}

func TestValidateRemediationStatusUpdate_StatusIsBounded(t *testing.T) {
	t.Parallel()

	says(t, ValidateRemediationStatusUpdate(remediation(func(r *infrastructure.MetalStackRemediation) {
		r.Status = infrastructure.MetalStackRemediationStatus{
			Phase: infrastructure.RemediationFencing, Attempt: 10, PoweredOff: true, FencedNode: "workers-1.example.org",
			Machine: &infrastructure.RemediatedMachine{Name: "workers-1", AllocationUUID: "a"},
		}
	}), remediation()))
	says(t, ValidateRemediationStatusUpdate(remediation(func(r *infrastructure.MetalStackRemediation) {
		r.Status = infrastructure.MetalStackRemediationStatus{
			Phase: "Rebooting", Attempt: 11, FencedNode: strings.Repeat("n", 254),
			Machine:    &infrastructure.RemediatedMachine{Name: strings.Repeat("m", 64), AllocationUUID: strings.Repeat("a", 65)},
			Conditions: make([]metav1.Condition, 33),
		}
	}), remediation()),
		"status.phase: Unsupported value", "status.attempt: Invalid value: 11", "status.machine.name: Too long", "status.machine.allocationUUID: Too long",
		"status.fencedNode: Too long", "status.conditions: Too many")
}
