// SPDX-License-Identifier: Apache-2.0

package validation

import (
	"slices"
	"strings"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The most entries that a list or map of a spec or status can have. The OpenAPI
// of the types says the same.
const (
	maxSSHKeys          = 32
	maxTags             = 64
	maxNetworks         = 12
	maxDNSServers       = 3
	maxNTPServers       = 5
	maxRules            = 100
	maxPorts            = 100
	maxPrefixes         = 100
	maxRuleEntries      = 2000 // ports and prefixes of all rules of one direction
	maxTemplateMetadata = 256
	maxConditions       = 32
	maxFirewallNetworks = 13
	maxEgressIPs        = 16 // of all networks
)

// The most bytes that a string of a spec can have, where its syntax does not say.
const (
	maxIDLength         = 253
	maxProviderIDLength = 128
	maxSSHKeyLength     = 16 << 10
	maxSSHCommentLength = 1 << 10
	maxPrefixLength     = 64
	maxVersionLength    = 128
	maxURLLength        = 2 << 10
	maxTimeZoneLength   = 64
	maxReportLength     = 1 << 10
	maxUIDLength        = 128

	maxEndpointProviderLength = 63
)

// tooMany refuses a list or map with more than most entries. If it
// returns an error, the entries are not validated.
func tooMany(entries, most int, path *field.Path) field.ErrorList {
	if entries <= most {
		return nil
	}
	return field.ErrorList{field.TooMany(path, entries, most)}
}

// tooLong refuses a string of more than most bytes, in the same way.
func tooLong(value string, most int, path *field.Path) field.ErrorList {
	if len(value) <= most {
		return nil
	}
	return field.ErrorList{field.TooLong(path, "", most)}
}

// unlessUnchanged drops errors about the size of a field that has not changed: an
// object that is older than a limit can be changed elsewhere.
func unlessUnchanged(errs field.ErrorList, value, old any, path *field.Path) field.ErrorList {
	return dropUnchanged(errs, value, old, path, func(err *field.Error) bool {
		return err.Type == field.ErrorTypeTooMany || err.Type == field.ErrorTypeTooLong
	})
}

// unlessKept drops all errors about a field that has not changed: what it can be may
// change with each release, as the names of time zones do.
func unlessKept(errs field.ErrorList, value, old any, path *field.Path) field.ErrorList {
	return dropUnchanged(errs, value, old, path, func(*field.Error) bool { return true })
}

// dropUnchanged drops those errors about a field that has not changed that drop selects.
func dropUnchanged(errs field.ErrorList, value, old any, path *field.Path, drop func(*field.Error) bool) field.ErrorList {
	if !apiequality.Semantic.DeepEqual(value, old) {
		return errs
	}
	return slices.DeleteFunc(errs, func(err *field.Error) bool {
		rest, within := strings.CutPrefix(err.Field, path.String())
		return within && (rest == "" || rest[0] == '.' || rest[0] == '[') && drop(err)
	})
}
