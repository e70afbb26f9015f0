// SPDX-License-Identifier: Apache-2.0

package simulator_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// comparer walks a recorded answer and a simulated one in parallel. It
// learns what the server made up, then finds every difference in field
// names, types, lengths and values. What may differ: names that the server
// made up (but always in the same way), the order of lists without one, and
// points in time (but not when they move, nor how precise they are).
type comparer struct {
	names   *names
	moments map[string]moment // by entity and field
	// fresh: the answer is that of an allocation, so numbers from pools are new.
	fresh bool

	diffs []string
}

// moment is what a field of an entity said when it was last seen.
type moment struct{ recorded, simulated string }

func newComparer() *comparer {
	return &comparer{names: newNames(), moments: map[string]moment{}}
}

// compare returns the differences, one a line, each with its path.
func (c *comparer) compare(rec, act any, fresh bool) []string {
	c.diffs, c.fresh = nil, fresh
	c.learn("", "", rec, act)
	c.walk("", "", "", rec, act)
	return c.diffs
}

func (c *comparer) differ(path, format string, args ...any) {
	if path == "" {
		path = "."
	}
	c.diffs = append(c.diffs, path+": "+fmt.Sprintf(format, args...))
}

// learn is the first walk: it fills names, so that the second can compare
// strings that contain them wherever they stand.
func (c *comparer) learn(path, field string, rec, act any) {
	switch rec := rec.(type) {
	case map[string]any:
		act, ok := act.(map[string]any)
		if !ok {
			return
		}
		for _, k := range slices.Sorted(maps.Keys(rec)) {
			c.learn(path+"."+k, k, rec[k], act[k])
		}
	case []any:
		act, ok := act.([]any)
		if !ok {
			return
		}
		for i, j := range c.pair(rec, act) {
			if j >= 0 {
				c.learn(fmt.Sprintf("%s[%d]", path, i), field, rec[i], act[j])
			}
		}
	case string:
		act, ok := act.(string)
		if ok && madeUp(rec) && madeUp(act) {
			if err := c.names.learn(rec, act); err != nil {
				c.differ(path, "%v", err)
			}
		}
	case json.Number:
		act, ok := act.(json.Number)
		if !ok {
			return
		}
		r, isPooled := pooled(field, rec.String())
		a, isPooledToo := pooled(field, act.String())
		if !isPooled || !isPooledToo {
			return
		}
		if c.fresh && c.names.simulated[r] != a {
			c.names.forget(r, a)
		}
		if err := c.names.learn(r, a); err != nil {
			c.differ(path, "%v", err)
		}
	}
}

// unordered are the lists of strings whose order means nothing. The tags of
// an address are sorted, all others are as Go's maps put them.
var unordered = []string{"tags", "ips", "prefixes", "features"}

func (c *comparer) walk(path, field, entity string, rec, act any) {
	if kind(rec) != kind(act) {
		c.differ(path, "recorded %s, simulated %s", brief(rec), brief(act))
		return
	}
	switch rec := rec.(type) {
	case map[string]any:
		act := act.(map[string]any)
		if id := identity(rec); id != "" {
			entity, path = id, path+"<"+id+">"
		} else {
			entity += "." + field
		}
		for _, k := range slices.Sorted(maps.Keys(rec)) {
			if _, ok := act[k]; !ok {
				c.differ(path+"."+k, "missing, recorded %s", brief(rec[k]))
				continue
			}
			c.walk(path+"."+k, k, entity, rec[k], act[k])
		}
		for _, k := range slices.Sorted(maps.Keys(act)) {
			if _, ok := rec[k]; !ok {
				c.differ(path+"."+k, "not recorded, simulated %s", brief(act[k]))
			}
		}
	case []any:
		act := act.([]any)
		if len(rec) != len(act) {
			c.differ(path, "recorded %d elements %s, simulated %d %s", len(rec), brief(rec), len(act), brief(act))
		}
		if slices.Contains(unordered, field) && !strings.HasPrefix(entity, "ip ") && allStrings(rec) && allStrings(act) {
			rec, act = c.sorted(rec), sortedStrings(act)
			for i := range min(len(rec), len(act)) {
				if rec[i] != act[i] {
					c.differ(path, "recorded %v, simulated %v", rec, act)
					return
				}
			}
			return
		}
		for i, j := range c.pair(rec, act) {
			if j < 0 {
				if len(rec) == len(act) {
					c.differ(fmt.Sprintf("%s[%d]", path, i), "recorded %s, not simulated", brief(rec[i]))
				}
				continue
			}
			c.walk(fmt.Sprintf("%s[%d]", path, i), field, fmt.Sprintf("%s[%d]", entity, i), rec[i], act[j])
		}
	case string:
		c.text(path, field, entity, rec, act.(string))
	case json.Number:
		act := act.(json.Number)
		r, ok := pooled(field, rec.String())
		a, _ := pooled(field, act.String())
		if ok && c.names.simulated[r] == a {
			return
		}
		if rec != act {
			c.differ(path, "recorded %s, simulated %s", rec, act)
		}
	default:
		if rec != act {
			c.differ(path, "recorded %v, simulated %v", rec, act)
		}
	}
}

func (c *comparer) text(path, field, entity, rec, act string) {
	recTime, err := time.Parse(time.RFC3339Nano, rec)
	if err != nil {
		if want := c.names.translate(rec); anyHost(want) != anyHost(act) {
			c.differ(path, "recorded %q, simulated %q", want, act)
		}
		return
	}
	actTime, err := time.Parse(time.RFC3339Nano, act)
	if err != nil {
		c.differ(path, "recorded the time %s, simulated %q", rec, act)
		return
	}
	// A write answers nanoseconds, what is read is rounded to milliseconds.
	if stored(rec) != stored(act) {
		c.differ(path, "recorded %s, simulated %s: one is precise to the nanosecond, the other to the millisecond", rec, act)
	}
	now := moment{round(recTime), round(actTime)}
	before, seen := c.moments[entity+" "+field]
	c.moments[entity+" "+field] = now
	if !seen {
		return
	}
	switch field {
	case "changed", "last_event_time", "updated_time":
		if (before.recorded == now.recorded) != (before.simulated == now.simulated) {
			c.differ(path, "recorded %s after %s, simulated %s after %s: one moved, the other did not",
				now.recorded, before.recorded, now.simulated, before.simulated)
		}
	case "created", "created_time":
		if before.recorded == now.recorded && before.simulated != now.simulated {
			c.differ(path, "moved from %s to %s", before.simulated, now.simulated)
		}
	}
}

// message compares two texts of errors, which may name hosts, ports and
// times of the recorded installation.
func (c *comparer) message(rec, act string) (want, got string, same bool) {
	want, got = anywhere(c.names.translate(rec)), anywhere(act)
	return want, got, want == got
}

var (
	hostPort  = regexp.MustCompile(`\b127\.0\.0\.1:\d+\b`)
	urlHost   = regexp.MustCompile(`^https?://[^/]+/`)
	timestamp = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`)
)

func anywhere(s string) string {
	return timestamp.ReplaceAllString(hostPort.ReplaceAllString(s, "HOST:PORT"), "TIME")
}

// anyHost takes the hosts out of URLs: the recorder's images lay elsewhere.
func anyHost(s string) string { return urlHost.ReplaceAllString(s, "http://HOST/") }

// stored says whether a time has been through the database, which keeps
// milliseconds.
func stored(s string) bool {
	_, fraction, _ := strings.Cut(strings.TrimSuffix(s, "Z"), ".")
	return len(fraction) <= 3
}

func round(t time.Time) string { return t.Round(time.Millisecond).Format(time.RFC3339Nano) }

func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case map[string]any:
		return "object"
	case []any:
		return "list"
	case string:
		return "string"
	case json.Number:
		return "number"
	case bool:
		return "boolean"
	}
	return fmt.Sprintf("%T", v)
}

// identity is what distinguishes an entity from others, wherever it is shown.
func identity(v map[string]any) string {
	if s, ok := v["ipaddress"].(string); ok {
		return "ip " + s
	}
	for _, k := range []string{"id", "networkid", "machineid", "mac"} {
		if s, ok := v[k].(string); ok && s != "" {
			return s
		}
	}
	return ""
}

// pair gives, for each recorded element, the index of the simulated one that
// it is to be compared with, or -1. Elements with an identity are found by
// it, or else by their name, all others by their place.
func (c *comparer) pair(rec, act []any) []int {
	pairs := make([]int, len(rec))
	taken := make([]bool, len(act))
	take := func(i int, same func(r, a map[string]any) bool) {
		r, ok := rec[i].(map[string]any)
		for j := range act {
			if pairs[i] >= 0 || !ok {
				return
			}
			if taken[j] {
				continue
			}
			if a, ok := act[j].(map[string]any); ok && same(r, a) {
				pairs[i], taken[j] = j, true
			}
		}
	}
	byID := func(r, a map[string]any) bool {
		id := identity(r)
		return id != "" && c.names.translate(id) == identity(a)
	}
	byName := func(r, a map[string]any) bool {
		return identity(r) != "" && !c.known(identity(r)) && !c.knownSimulated(identity(a)) &&
			r["name"] == a["name"] && nameOf(r) == nameOf(a)
	}
	for i := range rec {
		pairs[i] = -1
	}
	for i := range rec {
		take(i, byID)
	}
	for i := range rec {
		take(i, byName)
	}
	for i := range rec {
		r, object := rec[i].(map[string]any)
		if pairs[i] < 0 && i < len(act) && !taken[i] && (!object || identity(r) == "" || !c.known(identity(r))) {
			pairs[i], taken[i] = i, true
		}
	}
	return pairs
}

func (c *comparer) known(rec string) bool          { return c.names.simulated[rec] != "" }
func (c *comparer) knownSimulated(act string) bool { return c.names.recorded[act] != "" }

// nameOf is the name of an object, or of the project that it shows itself by.
func nameOf(v map[string]any) string {
	if a, ok := v["allocation"].(map[string]any); ok {
		name, _ := a["name"].(string)
		return name
	}
	name, _ := v["name"].(string)
	return name
}

func allStrings(list []any) bool {
	for _, v := range list {
		if _, ok := v.(string); !ok {
			return false
		}
	}
	return true
}

func (c *comparer) sorted(list []any) []any {
	return sortedStrings(c.names.translateValue(list).([]any))
}

func sortedStrings(list []any) []any {
	return slices.SortedFunc(slices.Values(list), func(a, b any) int {
		return strings.Compare(a.(string), b.(string))
	})
}

func brief(v any) string {
	b, _ := json.Marshal(v)
	if s := string(b); len(s) <= 120 {
		return s
	}
	return string(b[:117]) + "..."
}
