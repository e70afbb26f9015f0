// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/request"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
)

// Only objects as JSON, and lists in the forms that can be put together, are taken from the
// generic server.
func TestWithKeptEncodings_ChoosesFormAsGenericServer(t *testing.T) {
	t.Parallel()
	const table, metadata = "application/json;as=Table;g=meta.k8s.io;v=v1", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	list := request.RequestInfo{Verb: "list", APIGroup: infrastructure.GroupName, Resource: "metalstackmachines"}
	with := func(change func(*request.RequestInfo)) request.RequestInfo {
		info := list
		change(&info)
		return info
	}
	get := with(func(i *request.RequestInfo) { i.Verb = "get" })
	for name, c := range map[string]struct {
		info          request.RequestInfo
		accept, query string
		agent         string
		level         auditinternal.Level
		want          encodedForm
	}{
		"nothing is asked for":     {info: list, want: objectForm},
		"JSON":                     {info: list, accept: "application/json", want: objectForm},
		"anything":                 {info: list, accept: "*/*", want: objectForm},
		"protobuf, else JSON":      {info: list, accept: "application/vnd.kubernetes.protobuf,application/json", want: objectForm},
		"metadata":                 {info: list, accept: metadata + ",application/json", want: metadataForm},
		"table":                    {info: list, accept: table + ",application/json", want: tableForm},
		"metadata recorded":        {info: list, accept: table, level: auditinternal.LevelMetadata, want: tableForm},
		"YAML":                     {info: list, accept: "application/yaml"},
		"pretty":                   {info: list, accept: table, query: "pretty=1"},
		"a person":                 {info: list, agent: "curl/8"},
		"older table":              {info: list, accept: "application/json;as=Table;g=meta.k8s.io;v=v1beta1," + table},
		"older metadata":           {info: list, accept: "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1beta1"},
		"table with whole objects": {info: list, accept: table, query: "includeObject=Object"},
		"unknown transformation":   {info: list, accept: "application/json;as=Other;g=meta.k8s.io;v=v1"},
		"responses are recorded":   {info: list, accept: table, level: auditinternal.LevelRequestResponse},
		"watch":                    {info: with(func(i *request.RequestInfo) { i.Verb = "watch" })},
		"get":                      {info: get, accept: "application/json", want: objectForm},
		"get of a table":           {info: get, accept: table},
		"get of metadata":          {info: get, accept: metadata},
		"get for a person":         {info: get, agent: "curl/8"},
		"get that is recorded":     {info: get, level: auditinternal.LevelRequestResponse},
		"subresource":              {info: with(func(i *request.RequestInfo) { i.Subresource = "status" })},
		"other group":              {info: with(func(i *request.RequestInfo) { i.APIGroup = "" })},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?"+c.query, nil)
			if c.accept != "" {
				req.Header.Set("Accept", c.accept)
			}
			req.Header.Set("User-Agent", c.agent)
			ctx := request.WithRequestInfo(req.Context(), &c.info)
			if c.level != "" {
				ctx = audit.WithAuditContext(ctx)
				assert.NoError(t, audit.AuditContextFrom(ctx).Init(audit.RequestAuditConfig{Level: c.level}, nil))
			}
			var got encodedForm
			var accept string
			WithKeptEncodings(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
				got, _ = req.Context().Value(encodedFormKey{}).(encodedForm)
				accept = req.Header.Get("Accept")
			}), scheme.WithoutProtobuf(scheme.Codecs)).ServeHTTP(nil, req.WithContext(ctx))
			assert.Equal(t, c.want, got)
			if c.want == 0 {
				assert.Equal(t, c.accept, accept)
			} else {
				assert.Equal(t, "application/json", accept)
			}
		})
	}
}
