// SPDX-License-Identifier: Apache-2.0

package client

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// rule says what an answer means. The first that fits decides.
//
// The metal-api's status does not distinguish a refusal from an outage, only its
// message does (docs/metal-api.md, Q15), and a message can quote what a user
// wrote. So outages are looked for anywhere in a message, and before refusals;
// refusals are anchored at its beginning, and so are outages of which it is
// certain that nothing was changed. What no rule knows is Unavailable for reads
// and Uncertain for writes.
type rule struct {
	class   class
	status  []int // none: any
	message *regexp.Regexp
	kind    metal.Kind
	// from are the recordings in pkg/simulator/testdata that the rule was taken
	// from, "2/" for those of exchanges-2; a name is a file of the metal-api's
	// source, v0.44.1.
	from string
	// why is what makes the kind certain, or keeps it from being certain.
	why string
}

func pattern(pattern string) *regexp.Regexp { return regexp.MustCompile(pattern) }

func (r *rule) fits(c class, status int, message string) bool {
	return r.class&c != 0 &&
		(len(r.status) == 0 || slices.Contains(r.status, status)) &&
		r.message.MatchString(message)
}

// halfFreedNetwork is the answer to reads of a network that was freed halfway.
var halfFreedNetwork = pattern(`^prefix usage for cidr:`)

// causeOf returns what of the cause of an error has a name.
func causeOf(c class, message string) error {
	if c&classRead != 0 && halfFreedNetwork.MatchString(message) {
		return metal.ErrHalfFreedNetwork
	}
	return nil
}

// classify returns what the answer of an operation of class c means.
func classify(c class, status int, message string) metal.Kind {
	for i := range rules {
		if rules[i].fits(c, status, message) {
			return rules[i].kind
		}
	}
	if c&classReads != 0 {
		return metal.Unavailable
	}
	return metal.Uncertain
}

// explain adds what to do about failures whose own words mislead.
func explain(status int, message string) string {
	switch {
	case status == http.StatusNotFound && rules[0].message.MatchString(message):
		return message + ": unknown path: check the base path of the metal-api's URL (…/metal)"
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return cmp.Or(message, http.StatusText(status)) + ": the metal-api rejects the credential of this server: check the HMAC key, its type and the clocks"
	case status >= 300 && status < 400:
		return "redirects are not followed: check the scheme (http or https) of the metal-api's URL"
	}
	return cmp.Or(message, http.StatusText(status))
}
