// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"maps"
	"slices"

	"k8s.io/apiserver/pkg/admission"
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
	"metalapi":  "the path of a request, without its body",
}

// Admits returns whether requests for a subresource, "" for the resource itself, reach
// policies and webhooks.
func Admits(subresource string) bool {
	_, ok := admitted[subresource]
	return ok
}

// Admitted returns these subresources.
func Admitted() []string { return slices.Sorted(maps.Keys(admitted)) }

func exempt(a admission.Attributes) bool { return !Admits(a.GetSubresource()) }
