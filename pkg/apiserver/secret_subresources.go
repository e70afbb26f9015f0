// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"

	"k8s.io/apimachinery/pkg/util/sets"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// secretSubresources are those whose bodies or answers have secrets: user data, with which
// machines join their clusters, and console passwords.
var secretSubresources = sets.New("allocation", "consolepassword")

// secretsAuditPolicy limits the audit level of secretSubresources to Metadata, whatever
// the policy says.
type secretsAuditPolicy struct {
	policy audit.PolicyRuleEvaluator
}

var _ audit.PolicyRuleEvaluator = secretsAuditPolicy{}

// EvaluatePolicyRule implements audit.PolicyRuleEvaluator.
func (p secretsAuditPolicy) EvaluatePolicyRule(attributes authorizer.Attributes) audit.RequestAuditConfig {
	config := p.policy.EvaluatePolicyRule(attributes)
	if secretSubresources.Has(attributes.GetSubresource()) && auditinternal.LevelMetadata.Less(config.Level) {
		config.Level = auditinternal.LevelMetadata
	}
	return config
}

// withoutStoredSecrets forbids clients and proxies to store answers of
// secretSubresources.
func withoutStoredSecrets(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if info, ok := request.RequestInfoFrom(req.Context()); ok && info.APIGroup == infrastructure.GroupName && secretSubresources.Has(info.Subresource) {
			w.Header().Set("Cache-Control", "no-store, private")
		}
		next.ServeHTTP(w, req)
	})
}
