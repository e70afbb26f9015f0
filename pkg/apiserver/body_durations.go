// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxDuration is the most bytes of a duration.
const maxDuration = 64

// durationFields are the fields of specs that are durations, by the field that they are in.
// A value that is none does not decode, and the error of that does not name the field; of a
// server-side apply it would be an internal error.
var durationFields = map[string][]string{
	"controller":        {"interval", "silenceTimeout"},
	"firewallSpec":      {"provisioningTimeout"},
	"spec":              {"provisioningTimeout"},
	"maintenanceWindow": {"duration"},
	"strategy":          {"timeout"},
}

// checkDuration returns an error for the value of a field that is a duration, if the
// value is none.
func (b *bodyChecker) checkDuration(token json.Token) *field.Error {
	n := len(b.open)
	if n < 2 || b.open[n-1].list || token == nil || !slices.Contains(durationFields[b.open[n-2].key], b.open[n-1].key) {
		return nil
	}
	const help = "must be a duration in quotes, such as 30s, 10m or 2h"
	text, isString := token.(string)
	switch {
	case !isString:
		return field.Invalid(b.fieldPath(), fmt.Sprint(token), help)
	case len(text) > maxDuration:
		return field.TooLong(b.fieldPath(), "", maxDuration)
	}
	if _, err := time.ParseDuration(text); err != nil {
		return field.Invalid(b.fieldPath(), text, help)
	}
	return nil
}
