// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The comparer decides about the whole simulator, so it is tested first.
func TestComparer_FindsEveryDifference(t *testing.T) {
	t.Parallel()
	const (
		one = "11111111-1111-4111-8111-111111111111"
		two = "22222222-2222-4222-8222-222222222222"
	)
	for name, tc := range map[string]struct {
		rec, act string
		want     string // part of the only difference; empty: none
	}{
		"equal":                       {`{"a":1,"b":[true,null]}`, `{"b":[true,null],"a":1}`, ""},
		"a field is missing":          {`{"a":1,"b":2}`, `{"a":1}`, ".b: missing"},
		"a field too many":            {`{"a":1}`, `{"a":1,"b":2}`, ".b: not recorded"},
		"null is not absent":          {`{"a":null}`, `{}`, ".a: missing"},
		"null is not empty":           {`{"a":null}`, `{"a":[]}`, ".a: recorded null"},
		"a string is no number":       {`{"a":"1"}`, `{"a":1}`, ".a: recorded"},
		"inside a list":               {`[{"id":"x","a":1}]`, `[{"id":"x"}]`, ".a: missing"},
		"lists find their elements":   {`[{"id":"x","a":1},{"id":"y","a":2}]`, `[{"id":"y","a":2},{"id":"x","a":1}]`, ""},
		"three of them":               {`[{"id":"x"},{"id":"y"},{"id":"z"}]`, `[{"id":"y"},{"id":"z"},{"id":"x"}]`, ""},
		"a list too long":             {`[{"id":"x"}]`, `[{"id":"x"},{"id":"y"}]`, "recorded 1 elements"},
		"made up ids":                 {`{"id":"` + one + `"}`, `{"id":"` + two + `"}`, ""},
		"made up ids inside text":     {`{"id":"` + one + `","t":"m=` + one + `"}`, `{"id":"` + two + `","t":"m=` + two + `"}`, ""},
		"one id for two":              {`[{"a":"` + one + `"},{"a":"` + two + `"}]`, `[{"a":"` + one + `"},{"a":"` + one + `"}]`, "stands for"},
		"tags of a machine":           {`{"id":"m","tags":["a","b"]}`, `{"id":"m","tags":["b","a"]}`, ""},
		"tags of an address":          {`{"ipaddress":"1.2.3.4","tags":["a","b"]}`, `{"ipaddress":"1.2.3.4","tags":["b","a"]}`, "[0]"},
		"written times are precise":   {`{"changed":"2026-01-01T00:00:00.123456789Z"}`, `{"changed":"2026-01-02T00:00:00.123Z"}`, "nanosecond"},
		"read times are not":          {`{"changed":"2026-01-01T00:00:00.12Z"}`, `{"changed":"2026-01-02T00:00:00Z"}`, ""},
		"numbers from a pool":         {`{"vrf":20}`, `{"vrf":7}`, ""},
		"two numbers from a pool":     {`[{"id":"a","vrf":20},{"id":"b","vrf":30}]`, `[{"id":"a","vrf":7},{"id":"b","vrf":7}]`, "stands for"},
		"other numbers":               {`{"used_ips":3}`, `{"used_ips":2}`, "recorded 3, simulated 2"},
		"a value":                     {`{"name":"a"}`, `{"name":"b"}`, `recorded "a", simulated "b"`},
		"an element for another":      {`[{"id":"x"}]`, `[{"id":"y"}]`, `recorded "x"`},
		"the number is inside a text": {`{"asn":4210000020,"t":"asn=4210000020"}`, `{"asn":4210000001,"t":"asn=4210000001"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			diffs := newComparer().compare(decode(t, []byte(tc.rec)), decode(t, []byte(tc.act)), false)
			if tc.want == "" {
				assert.Empty(t, diffs)
				return
			}
			assert.Contains(t, strings.Join(diffs, "\n"), tc.want)
		})
	}
}

func TestComparer_NoticesWhatMoves(t *testing.T) {
	t.Parallel()
	at := func(t *testing.T, changed string) any {
		return decode(t, []byte(`{"id":"m","changed":"2026-01-01T00:00:0`+changed+`Z"}`))
	}
	c := newComparer()
	assert.Empty(t, c.compare(at(t, "1.1"), at(t, "5.5"), false))
	assert.Empty(t, c.compare(at(t, "1.1"), at(t, "5.5"), false), "neither moved")
	assert.Empty(t, c.compare(at(t, "1.2"), at(t, "5.6"), false), "both moved")
	assert.Empty(t, c.compare(at(t, "1.250499999"), at(t, "5.700499999"), false), "both moved")
	assert.Empty(t, c.compare(at(t, "1.25"), at(t, "5.7"), false), "what was written is read rounded")
	assert.NotEmpty(t, c.compare(at(t, "1.25"), at(t, "5.8"), false), "only the simulator's moved")
	assert.NotEmpty(t, c.compare(at(t, "1.3"), at(t, "5.8"), false), "only the recorded one moved")
}

func TestComparer_NumbersReturnToPool(t *testing.T) {
	t.Parallel()
	network := func(t *testing.T, id, vrf string) any { return decode(t, []byte(`{"id":"`+id+`","vrf":`+vrf+`}`)) }
	c := newComparer()
	assert.Empty(t, c.compare(network(t, "a", "20"), network(t, "a", "1"), true))
	assert.NotEmpty(t, c.compare(network(t, "a", "30"), network(t, "a", "1"), false), "a VRF does not change")
	assert.Empty(t, c.compare(network(t, "b", "20"), network(t, "b", "2"), true), "a new network may get any")
}
