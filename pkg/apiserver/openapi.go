package apiserver

import (
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/server"

	"metal-stack.io/infrastructure-apiserver/generated/openapi"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/scheme"
)

// describe sets up both versions of OpenAPI: kubectl explains by them, and
// server-side apply merges by the third.
func describe(c *server.Config) {
	const title = "metal-stack infrastructure"
	namer := openapinamer.NewDefinitionNamer(scheme.Scheme)
	c.OpenAPIConfig = server.DefaultOpenAPIConfig(openapi.GetOpenAPIDefinitions, namer)
	c.OpenAPIConfig.Info.Title = title
	c.OpenAPIV3Config = server.DefaultOpenAPIV3Config(openapi.GetOpenAPIDefinitions, namer)
	c.OpenAPIV3Config.Info.Title = title
}
