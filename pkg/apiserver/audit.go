// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// allocationAuditPolicy limits the audit level of allocations to Metadata, whatever the
// policy says: their bodies have user data, with the secrets that machines join with.
type allocationAuditPolicy struct {
	policy audit.PolicyRuleEvaluator
}

var _ audit.PolicyRuleEvaluator = allocationAuditPolicy{}

// EvaluatePolicyRule implements audit.PolicyRuleEvaluator.
func (p allocationAuditPolicy) EvaluatePolicyRule(attributes authorizer.Attributes) audit.RequestAuditConfig {
	config := p.policy.EvaluatePolicyRule(attributes)
	if attributes.GetSubresource() == "allocation" && auditinternal.LevelMetadata.Less(config.Level) {
		config.Level = auditinternal.LevelMetadata
	}
	return config
}
