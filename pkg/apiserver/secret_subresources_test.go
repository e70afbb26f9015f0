// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// level is an audit policy with one level.
type level auditinternal.Level

func (l level) EvaluatePolicyRule(authorizer.Attributes) audit.RequestAuditConfig {
	return audit.RequestAuditConfig{Level: auditinternal.Level(l)}
}

func TestSecretSubresources_AreAuditedWithMetadataAtMost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		subresource  string
		policy, want auditinternal.Level
	}{
		{"allocation", auditinternal.LevelRequestResponse, auditinternal.LevelMetadata},
		{"consolepassword", auditinternal.LevelRequestResponse, auditinternal.LevelMetadata},
		{"consolepassword", auditinternal.LevelRequest, auditinternal.LevelMetadata},
		{"consolepassword", auditinternal.LevelNone, auditinternal.LevelNone},
		{"power", auditinternal.LevelRequestResponse, auditinternal.LevelRequestResponse},
		{"", auditinternal.LevelRequestResponse, auditinternal.LevelRequestResponse},
	} {
		got := secretsAuditPolicy{level(c.policy)}.EvaluatePolicyRule(authorizer.AttributesRecord{Subresource: c.subresource})
		assert.Equal(t, c.want, got.Level, "%s at %s", c.subresource, c.policy)
	}
}

func TestSecretSubresources_AnswersAreNotStored(t *testing.T) {
	t.Parallel()
	handler := withoutStoredSecrets(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for subresource, want := range map[string]string{"consolepassword": "no-store, private", "allocation": "no-store, private", "power": ""} {
		w := httptest.NewRecorder()
		req := httptest.NewRequest(http.MethodPost, "/", nil)
		info := &request.RequestInfo{APIGroup: infrastructure.GroupName, Subresource: subresource}
		handler.ServeHTTP(w, req.WithContext(request.WithRequestInfo(req.Context(), info)))
		assert.Equal(t, want, w.Header().Get("Cache-Control"), subresource)
	}
}
