// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCheckBody_NamesWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	many := func(n int) string { return `[` + strings.Repeat(`"",`, n-1) + `""]` }
	long := func(n int) string { return `"` + strings.Repeat("a", n) + `"` }
	for body, want := range map[string]string{
		``:                                     "",
		`{}`:                                   "",
		`{"spec":{"tags":` + many(1024) + `}}`: "",
		`{"spec":{"tags":` + many(1025) + `}}`: "spec.tags: Too many: must have at most 1024 items",
		`{"spec":{"a":[{"b":` + many(1025) + `}]}}`:                     "spec.a[0].b: Too many",
		`[{"op":"add","path":"/spec/tags","value":` + many(1025) + `}]`: "[0].value: Too many",
		many(1025):                                                           "body: Too many",
		`{"spec":{"x":` + long(maxString) + `}}`:                             "",
		`{"spec":{"x":` + long(maxString+1) + `}}`:                           "spec.x: Too long",
		`{"spec":{"x":["",` + long(maxString+1) + `]}}`:                      "spec.x[1]: Too long",
		`{"metadata":{"name":` + long(1025) + `}}`:                           "metadata.name: Too long",
		`{"metadata":{"labels":{"a":` + long(1025) + `}}}`:                   "metadata.labels.a: Too long",
		`{"metadata":{"annotations":{"a":` + long(100_000) + `}}}`:           "",
		`{"spec":{` + long(1025) + `:1}}`:                                    "spec: Invalid value: must not have a key of more than 1024 bytes",
		`{"spec":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`: "must not be nested more than 32 levels deep",
		`{"a":[` + strings.Repeat(many(1000)+",", 101) + `1]}`:               "body: Too many: must have at most 100000 items in all of its lists and maps",
		`{"userData":` + long(1_398_104) + `}`:                               "userData: Too long",
		"spec:\n  tags:\n" + strings.Repeat("  - x\n", 1000):                 "",
		"spec:\n  tags:\n" + strings.Repeat("  - x\n", 30_000):               "body: Too many: 30002: must have at most 25000 items (lines and entries in a body that is not JSON)",
		"{a: [" + strings.Repeat("x,", 30_000) + "]}":                        "body: Too many",
		`{"a":1}` + strings.Repeat("\n- x", 30_000):                          "body: Too many",
		strings.Repeat("a: &a [*a]\n", 20_000):                               "body: Too many",
		`{"a":` + many(600_000) + `}`:                                        "", // Longer than a body can be.
	} {
		got := checkBody([]byte(body), false)
		short := body[:min(len(body), 60)]
		if want == "" {
			assert.Nil(t, got, short)
		} else if assert.NotNil(t, got, short) {
			assert.Contains(t, strings.ReplaceAll(got.Error(), "<nil>", ""), want, short)
		}
	}
	assert.Nil(t, checkBody([]byte(`{"userData":`+long(1_398_104)+`}`), true))
}

func TestCheckBody_NamesDurationsThatAreNone(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"spec":{"controller":{"interval":"10s"},"provisioningTimeout":"1h"}}`:                         "",
		`{"spec":{"controller":{"interval":"10"}}}`:                                                     `spec.controller.interval: Invalid value: "10": must be a duration in quotes, such as 30s`,
		`{"spec":{"controller":{"silenceTimeout":1800}}}`:                                               `spec.controller.silenceTimeout: Invalid value: "1800": must be a duration in quotes`,
		`{"spec":{"provisioningTimeout":{"a":"b"}}}`:                                                    "spec.provisioningTimeout: Invalid value",
		`{"spec":{"firewallSpec":{"provisioningTimeout":""}}}`:                                          `spec.firewallSpec.provisioningTimeout: Invalid value: ""`,
		`{"spec":{"firewallSpec":{"controller":{"interval":null}}}}`:                                    "",
		`{"spec":{"template":{"spec":{"firewallSpec":{"controller":{"interval":"1d"}}}}}}`:              `spec.template.spec.firewallSpec.controller.interval: Invalid value: "1d"`,
		`{"spec":{"autoUpdate":{"maintenanceWindow":{"duration":"` + strings.Repeat("1s", 40) + `"}}}}`: "spec.autoUpdate.maintenanceWindow.duration: Too long: may not be more than 64 bytes",
		`[{"op":"add","path":"/spec","value":{"controller":{"interval":"x"}}}]`:                         `[0].value.controller.interval: Invalid value: "x"`,
		`{"metadata":{"labels":{"interval":"x","duration":"y","provisioningTimeout":"z"}}}`:             "",
		`{"metadata":{"ownerReferences":[{"controller":true}]},"spec":{"controller":{"version":"x"}}}`:  "",
	} {
		got := checkBody([]byte(body), false)
		if want == "" {
			assert.Nil(t, got, body)
		} else if assert.NotNil(t, got, body) {
			assert.Contains(t, got.Error(), want, body)
		}
	}
}
