// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/endpoints/request"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

// admitted are the subresources whose requests reach policies and webhooks, and why they
// may: what is sent there is read by whoever runs a webhook, and is in its logs. All other
// subresources are exempt, above all allocation, whose body has user data, and
// consolepassword. A new subresource is exempt until it is listed here.
var admitted = map[string]string{
	"":          "specs have no secrets, only references to Secrets",
	"status":    "likewise",
	"power":     "an action and a reason",
	"identify":  "the state of an LED and a reason",
	"reinstall": "an image and a reason",
	"lock":      "a reason",
	"metalapi":  "the path of a request that changes something, without its body",
}

// Admits returns whether requests for a subresource, "" for the resource itself, reach
// policies and webhooks.
func Admits(subresource string) bool {
	_, ok := admitted[subresource]
	return ok
}

// Admitted returns these subresources.
func Admitted() []string { return slices.Sorted(maps.Keys(admitted)) }

// methods are those of the verbs of requests that connect.
var methods = map[string]string{"get": http.MethodGet, "create": http.MethodPost, "update": http.MethodPut, "delete": http.MethodDelete}

// isExempt returns whether a request reaches no policy and no webhook. Reads of the metal-api
// of a cluster are among these, as all reads: to admission, each is a CONNECT.
func (p *plugin) isExempt(ctx context.Context, a admission.Attributes) bool {
	if !Admits(a.GetSubresource()) {
		return true
	}
	options, connects := a.GetObject().(*infrastructure.MetalAPIOptions)
	if !connects || p.reads == nil {
		return false
	}
	info, known := request.RequestInfoFrom(ctx)
	return known && p.reads(methods[info.Verb], options.Path)
}
