// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"k8s.io/apimachinery/pkg/runtime"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/kube-openapi/pkg/common"
)

// configureOpenAPI configures both versions of OpenAPI: kubectl explain uses them, and
// server-side apply merges by v3.
func configureOpenAPI(c *server.Config, definitions common.GetOpenAPIDefinitions, schemes ...*runtime.Scheme) {
	const title = "metal-stack infrastructure"
	namer := openapinamer.NewDefinitionNamer(schemes...)
	c.OpenAPIConfig = server.DefaultOpenAPIConfig(definitions, namer)
	c.OpenAPIConfig.Info.Title = title
	c.OpenAPIV3Config = server.DefaultOpenAPIV3Config(definitions, namer)
	c.OpenAPIV3Config.Info.Title = title
}
