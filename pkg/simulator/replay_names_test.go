// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"fmt"
	"regexp"
	"strings"
)

// names translates what the recorded server made up (ids, VRFs, ASNs, MAC
// addresses) into what the simulator made up instead. It is learnt from
// answers walked in parallel, and it is one to one: two things that were one
// in the recording must be one in the simulator, and the other way round.
type names struct {
	simulated map[string]string // by recorded name
	recorded  map[string]string // by simulated name
}

func newNames() *names {
	return &names{simulated: map[string]string{}, recorded: map[string]string{}}
}

var (
	uuidPattern = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	macPattern  = regexp.MustCompile(`\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b`)
	asnPattern  = regexp.MustCompile(`\b421\d{7}\b`)
)

// learn notes that the simulator says act where the recording says rec. It
// is an error if either is known to be something else.
func (n *names) learn(rec, act string) error {
	if known, ok := n.simulated[rec]; ok && known != act {
		return fmt.Errorf("%s was %s before and is %s now", rec, known, act)
	}
	if known, ok := n.recorded[act]; ok && known != rec {
		return fmt.Errorf("%s stands for %s already, not for %s", act, known, rec)
	}
	n.simulated[rec], n.recorded[act] = act, rec
	return nil
}

// forget makes a recorded name, and what it stood for, free for a new
// meaning: VRFs and ASNs go back to their pools.
func (n *names) forget(rec, act string) {
	delete(n.recorded, n.simulated[rec])
	delete(n.simulated, rec)
	delete(n.simulated, n.recorded[act])
	delete(n.recorded, act)
}

// translate replaces every recorded name in s.
func (n *names) translate(s string) string {
	for _, p := range []*regexp.Regexp{uuidPattern, macPattern, asnPattern} {
		s = p.ReplaceAllStringFunc(s, func(rec string) string {
			if act, ok := n.simulated[rec]; ok {
				return act
			}
			return rec
		})
	}
	return s
}

// translateValue replaces every recorded name in the strings of a decoded
// JSON value.
func (n *names) translateValue(v any) any {
	switch v := v.(type) {
	case string:
		return n.translate(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = n.translateValue(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[n.translate(k)] = n.translateValue(v[k])
		}
		return out
	}
	return v
}

// madeUp says whether a string as a whole is a name that the server chose.
func madeUp(s string) bool {
	for _, p := range []*regexp.Regexp{uuidPattern, macPattern} {
		if m := p.FindString(s); m == s && s != "" {
			return true
		}
	}
	return false
}

// pooled are the fields whose numbers come from a pool: the prefix keeps
// VRF 20 and ASN 20 apart.
func pooled(field, number string) (string, bool) {
	if number == "0" || (field != "vrf" && field != "asn") || strings.HasPrefix(number, "104") {
		return "", false
	}
	if field == "asn" {
		return number, true
	}
	return "vrf " + number, true
}
