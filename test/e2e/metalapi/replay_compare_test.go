// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// difference is one between a recorded answer and ours.
type difference struct {
	// path is that of a field, without indices.
	path, what string
}

func (d difference) String() string { return d.path + ": " + d.what }

// valued are the fields whose values are compared, and not only their types: what a run
// does not choose.
var valued = map[string]bool{
	"status": true, "message": true, "id": true, "liveliness": true, "partition.id": true, "size.id": true,
	"allocation.name": true, "allocation.hostname": true, "allocation.project": true, "allocation.role": true,
	"allocation.networks.networkid": true, "allocation.networks.nat": true, "allocation.networks.private": true, "allocation.networks.underlay": true,
	"allocation.networks.networktypev2": true, "allocation.networks.nattypev2": true, "allocation.networks.projectid": true,
	"name": true, "description": true, "projectid": true, "networkid": true, "type": true, "ipaddress": true,
}

func (p *player) compare(recorded, answered any) (found []difference) {
	p.walk("", recorded, answered, func(path, format string, args ...any) {
		found = append(found, difference{path, fmt.Sprintf(format, args...)})
	})
	return found
}

type report func(path, format string, args ...any)

func (p *player) walk(path string, recorded, answered any, differ report) {
	if kindOf(recorded) != kindOf(answered) {
		differ(path, "recorded %v, answered %v", recorded, answered)
		return
	}
	switch recorded := recorded.(type) {
	case map[string]any:
		p.walkFields(path, recorded, answered.(map[string]any), differ)
	case []any:
		p.walkList(path, recorded, answered.([]any), differ)
	case string:
		switch ours := answered.(string); {
		case path == "" && recorded != ours: // An error.
			differ("error", "recorded %s, answered %s", recorded, ours)
		case valued[path] && p.translate(recorded) != ours:
			differ(path, "recorded %q, answered %q", p.translate(recorded), ours)
		}
	default:
		if valued[path] && recorded != answered {
			differ(path, "recorded %v, answered %v", recorded, answered)
		}
	}
}

func (p *player) walkFields(path string, recorded, answered map[string]any, differ report) {
	at := func(name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	for _, name := range slices.Sorted(maps.Keys(recorded)) {
		if _, ok := answered[name]; !ok {
			differ(at(name), "recorded %v, and not answered", recorded[name])
			continue
		}
		p.walk(at(name), recorded[name], answered[name], differ)
	}
	for _, name := range slices.Sorted(maps.Keys(answered)) {
		if _, ok := recorded[name]; !ok {
			differ(at(name), "answered %v, and not recorded", answered[name])
		}
	}
}

func (p *player) walkList(path string, recorded, answered []any, differ report) {
	switch path {
	case "":
		p.walkAnswers(recorded, answered, differ)
	case "tags":
		if ours, theirs := p.comparableTags(answered), p.comparableTags(recorded); !slices.Equal(ours, theirs) {
			differ(path, "recorded %v, answered %v", theirs, ours)
		}
	case "allocation.networks":
		p.walkEach(path, "networkid", recorded, answered, differ)
	default: // Of what is as many as there are, such as events, types are compared.
		if len(recorded) > 0 && len(answered) > 0 {
			p.walk(path, recorded[0], answered[0], differ)
		} else if len(recorded) > 0 {
			differ(path, "recorded %v, answered an empty list", recorded)
		}
	}
}

// walkAnswers compares machines by id, and addresses of Services by name. Those of machines
// depend on the data centre: of them, one is compared with any.
func (p *player) walkAnswers(recorded, answered []any, differ report) {
	answered = slices.DeleteFunc(answered, func(a any) bool { return a.(map[string]any)["ipaddress"] == p.controlPlane })
	ofMachines := func(a any) bool { return a.(map[string]any)["description"] == "autoassigned" }
	if i, j := slices.IndexFunc(recorded, ofMachines), slices.IndexFunc(answered, ofMachines); i >= 0 && j >= 0 {
		shapeOnly := func(path, format string, args ...any) {
			if !valued[path] && path != "tags" {
				differ(path, format, args...)
			}
		}
		p.walk("", recorded[i], answered[j], shapeOnly)
	} else if (i < 0) != (j < 0) {
		differ("", "recorded %v, answered %v", recorded, answered)
	}
	recorded, answered = slices.DeleteFunc(recorded, ofMachines), slices.DeleteFunc(answered, ofMachines)
	key := "id"
	if len(recorded) > 0 && recorded[0].(map[string]any)["id"] == nil || len(answered) > 0 && answered[0].(map[string]any)["id"] == nil {
		key = "name"
	}
	p.walkEach("", key, recorded, answered, differ)
}

// walkEach compares the items of two lists that have the same key.
func (p *player) walkEach(path, key string, recorded, answered []any, differ report) {
	rest := slices.Clone(answered)
	for _, r := range recorded {
		name := p.translate(r.(map[string]any)[key].(string))
		i := slices.IndexFunc(rest, func(a any) bool { return a.(map[string]any)[key] == name })
		if i < 0 {
			differ(path, "%s is not answered", name)
			continue
		}
		p.walk(path, r, rest[i], differ)
		rest = slices.Delete(rest, i, i+1)
	}
	for _, a := range rest {
		differ(path, "%v is not recorded", a.(map[string]any)[key])
	}
}

// comparableTags is a list of tags without what a run chooses: ASNs, racks, and cluster ids
// of machines.
func (p *player) comparableTags(tags []any) (all []string) {
	for _, t := range tags {
		tag := p.translate(t.(string))
		for _, chosen := range []string{"machine.metal-stack.io/network.primary.asn", "machine.metal-stack.io/chassis", "machine.metal-stack.io/rack", "cluster.metal-stack.io/id"} {
			if key, _, _ := strings.Cut(tag, "="); key == chosen {
				tag = chosen
			}
		}
		all = append(all, tag)
	}
	slices.Sort(all)
	return all
}

func kindOf(v any) string {
	if _, ok := v.(float64); ok {
		return "number"
	}
	return fmt.Sprintf("%T", v)
}
