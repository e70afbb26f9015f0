// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// value is a row of the table of values.
type value struct{ path, initial, description string }

// values are the values in values.yaml: what has a comment, and no field with one.
func values(text []byte) ([]value, error) {
	document := &yaml.Node{}
	if err := yaml.Unmarshal(text, document); err != nil {
		return nil, err
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("no mapping")
	}
	return valuesOf("", document.Content[0])
}

func valuesOf(prefix string, mapping *yaml.Node) ([]value, error) {
	var found []value
	for i := 0; i < len(mapping.Content); i += 2 {
		key, node := mapping.Content[i], mapping.Content[i+1]
		path := prefix + key.Value
		if commented(node) {
			inner, err := valuesOf(path+".", node)
			if err != nil {
				return nil, err
			}
			found = append(found, inner...)
			continue
		}
		description := comment(key)
		if description == "" {
			return nil, fmt.Errorf("line %d: %s: no comment: each value needs one", key.Line, path)
		}
		var initial any
		if err := node.Decode(&initial); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		text, err := json.Marshal(initial)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		found = append(found, value{path, string(text), description})
	}
	return found, nil
}

// commented is whether a node is a mapping with a field that has a comment, at any depth.
func commented(node *yaml.Node) bool {
	if node.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i < len(node.Content); i += 2 {
		if comment(node.Content[i]) != "" || commented(node.Content[i+1]) {
			return true
		}
	}
	return false
}

func comment(key *yaml.Node) string {
	var lines []string
	for line := range strings.SplitSeq(key.HeadComment, "\n") {
		lines = append(lines, strings.TrimSpace(strings.TrimPrefix(line, "#")))
	}
	return strings.Join(lines, " ")
}

// valuesTable is the table of values in Markdown.
func valuesTable(text []byte) (string, error) {
	rows, err := values(text)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("| value | default | meaning |\n| --- | --- | --- |\n")
	for _, row := range rows {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", row.path, row.initial, strings.ReplaceAll(row.description, "|", "\\|"))
	}
	return b.String(), nil
}

const (
	tableBegin = "<!-- values: made of values.yaml by hack/chart -->\n"
	tableEnd   = "<!-- end of values -->\n"
)

// replaceTable returns a page with another table between its marks.
func replaceTable(page, table string) (string, error) {
	before, rest, ok := strings.Cut(page, tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !ok || !ended {
		return "", fmt.Errorf("the table stands between the lines %q and %q, which are not there", strings.TrimSpace(tableBegin), strings.TrimSpace(tableEnd))
	}
	return before + tableBegin + "\n" + table + "\n" + tableEnd + after, nil
}
