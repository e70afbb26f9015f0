// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"math/rand"
	"testing"

	apifuzzer "k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/fuzzer"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
)

// Whatever a client sends, validation answers: a panic would be a 500 to the
// client and a stack trace to the operator.
func TestValidation_NeverPanics(t *testing.T) {
	t.Parallel()

	fill := apifuzzer.FuzzerFor(apifuzzer.MergeFuzzerFuncs(metafuzzer.Funcs, fuzzer.Funcs), rand.NewSource(1), scheme.Codecs).Fill
	for range 300 {
		var m, m2 infrastructure.MetalStackMachine
		fill(&m)
		fill(&m2)
		ValidateMachine(&m)
		ValidateMachineUpdate(&m, &m2)
		ValidateMachineStatusUpdate(&m, &m2)

		var f, f2 infrastructure.MetalStackFirewall
		fill(&f)
		fill(&f2)
		ValidateFirewall(&f)
		ValidateFirewallUpdate(&f, &f2)
		ValidateFirewallStatusUpdate(&f, &f2)

		var c, c2 infrastructure.MetalStackCluster
		fill(&c)
		fill(&c2)
		ValidateCluster(&c)
		ValidateClusterUpdate(&c, &c2)
		ValidateClusterStatusUpdate(&c, &c2)

		var mt, mt2 infrastructure.MetalStackMachineTemplate
		fill(&mt)
		fill(&mt2)
		ValidateMachineTemplate(&mt)
		ValidateMachineTemplateUpdate(&mt, &mt2, true)
		ValidateMachineTemplateStatusUpdate(&mt, &mt2)

		var ct, ct2 infrastructure.MetalStackClusterTemplate
		fill(&ct)
		fill(&ct2)
		ValidateClusterTemplate(&ct)
		ValidateClusterTemplateUpdate(&ct, &ct2, false)

		var r, r2 infrastructure.MetalStackRemediation
		fill(&r)
		fill(&r2)
		ValidateRemediation(&r)
		ValidateRemediationUpdate(&r, &r2)
		ValidateRemediationStatusUpdate(&r, &r2)

		var rt, rt2 infrastructure.MetalStackRemediationTemplate
		fill(&rt)
		fill(&rt2)
		ValidateRemediationTemplate(&rt)
		ValidateRemediationTemplateUpdate(&rt, &rt2, true)

		var a infrastructure.Allocation
		fill(&a)
		ValidateAllocation(&a, "node-1")
	}
}
