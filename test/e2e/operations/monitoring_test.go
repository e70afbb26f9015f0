// SPDX-License-Identifier: Apache-2.0

package operations_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"metal-stack.io/infrastructure-apiserver/test/framework/cluster"
)

// runbooks is where the pages of this repository are read.
const runbooks = "https://github.com/metal-stack/metalstack-apiserver/blob/main/" + page + "#"

// rule is an alert.
type rule struct {
	expr, duration      string
	labels, annotations map[string]string
}

// component is a file of components/monitoring.
func component(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(cluster.Deploy(), "components", "monitoring", name))
	require.NoError(t, err)
	return content
}

// alerts are the rules among objects, by name.
func alerts(t *testing.T, objects []*unstructured.Unstructured) map[string]rule {
	t.Helper()
	found := map[string]rule{}
	for _, object := range objects {
		if object.GetKind() != "PrometheusRule" {
			continue
		}
		groups, _, err := unstructured.NestedSlice(object.Object, "spec", "groups")
		require.NoError(t, err)
		for _, group := range groups {
			rules, _, err := unstructured.NestedSlice(group.(map[string]any), "rules")
			require.NoError(t, err)
			for _, one := range rules {
				fields := one.(map[string]any)
				name, _ := fields["alert"].(string)
				require.NotContains(t, found, name)
				var r rule
				r.expr, _ = fields["expr"].(string)
				r.duration, _ = fields["for"].(string)
				r.labels, _, _ = unstructured.NestedStringMap(fields, "labels")
				r.annotations, _, _ = unstructured.NestedStringMap(fields, "annotations")
				found[name] = r
			}
		}
	}
	return found
}

type board struct {
	Title, UID string
	Templating struct {
		List []struct{ Name, Type, Query any }
	}
	Annotations struct{ List []any }
	Panels      []panel
}

// variables are the queries of the board's variables, by name.
func (b board) variables(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, variable := range b.Templating.List {
		if variable.Type != "query" {
			continue
		}
		fields, _ := variable.Query.(map[string]any)
		text, ok := fields["query"].(string)
		require.True(t, ok, "%v has no query", variable.Name)
		all[variable.Name.(string)] = text
	}
	require.NotEmpty(t, all)
	return all
}

type panel struct {
	ID         int
	Type       string
	Title      string
	GridPos    struct{ X, Y, W, H int }
	Datasource struct{ UID string }
	Targets    []struct {
		RefID, Expr, LegendFormat string
		Datasource                struct{ UID string }
	}
}

// dashboard is the one in a ConfigMap among objects.
func dashboard(t *testing.T, objects []*unstructured.Unstructured) board {
	t.Helper()
	for _, object := range objects {
		if object.GetKind() == "ConfigMap" && object.GetLabels()["grafana_dashboard"] == "1" {
			content, _, err := unstructured.NestedString(object.Object, "data", "metalstack.json")
			require.NoError(t, err)
			var b board
			require.NoError(t, json.Unmarshal([]byte(content), &b))
			return b
		}
	}
	t.Fatal("no dashboard")
	return board{}
}

var (
	headingForm = regexp.MustCompile(`(?m)^#+ (.+)$`)
	anchorForm  = regexp.MustCompile(`<a id="([^"]+)">`)
	runbookForm = regexp.MustCompile(`(?m)^### (.+)$`)
)

// anchors are those that a text sets, and those that GitHub makes of its headings.
func anchors(text string) []string {
	var all []string
	for _, match := range anchorForm.FindAllStringSubmatch(text, -1) {
		all = append(all, match[1])
	}
	for _, match := range headingForm.FindAllStringSubmatch(text, -1) {
		kept := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(match[1]), "")
		all = append(all, strings.ReplaceAll(kept, " ", "-"))
	}
	return all
}

func TestAlerts_HaveRunbooksAndRunbooksAlerts(t *testing.T) {
	t.Parallel()
	object := &unstructured.Unstructured{}
	require.NoError(t, yaml.UnmarshalStrict(component(t, "rules.yaml"), &object.Object))
	all := alerts(t, []*unstructured.Unstructured{object})
	_, section, found := strings.Cut(text(t), "\n## Alerts\n")
	require.True(t, found)
	require.NotContains(t, section, "\n## ", "alerts are the last section")
	var explained []string
	for _, match := range runbookForm.FindAllStringSubmatch(section, -1) {
		explained = append(explained, match[1])
	}
	var names []string
	for name, rule := range all {
		names = append(names, name)
		assert.Contains(t, []string{"critical", "warning"}, rule.labels["severity"], name)
		assert.NotEmpty(t, rule.annotations["summary"], name)
		assert.True(t, strings.HasSuffix(rule.annotations["description"], "."), name)
		anchor, ok := strings.CutPrefix(rule.annotations["runbook_url"], runbooks)
		assert.True(t, ok, name)
		assert.Equal(t, strings.ToLower(name), anchor)
		assert.Contains(t, anchors(text(t)), anchor)
		if rule.duration != "" {
			assert.Regexp(t, `^\d+[mh]$`, rule.duration, name)
		}
	}
	assert.ElementsMatch(t, names, explained)
}

func TestDashboard_CanBeImported(t *testing.T) {
	t.Parallel()
	var b board
	require.NoError(t, json.Unmarshal(component(t, "dashboard.json"), &b))
	assert.NotEmpty(t, b.UID)
	require.NotEmpty(t, b.Templating.List)
	assert.Equal(t, "datasource", b.Templating.List[0].Name)
	assert.Equal(t, "datasource", b.Templating.List[0].Type)
	assert.Equal(t, "prometheus", b.Templating.List[0].Query)
	var ids []int
	taken := map[[2]int]string{}
	for _, p := range b.Panels {
		assert.NotContains(t, ids, p.ID)
		ids = append(ids, p.ID)
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			assert.Less(t, x, 24, p.Title)
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				assert.Empty(t, taken[[2]int{x, y}], "%s lies on another panel", p.Title)
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		assert.Equal(t, "${datasource}", p.Datasource.UID, p.Title)
		assert.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			assert.Equal(t, "${datasource}", target.Datasource.UID, p.Title)
		}
	}
}

// metricsOf are the metrics that a query asks for.
func metricsOf(t *testing.T, text string) (all []string) {
	t.Helper()
	q, err := parse(text)
	require.NoError(t, err, text)
	for _, s := range q.selectors {
		all = append(all, s.metric)
	}
	return all
}

// Whoever got an alert sees on the dashboard since when, and how much.
func TestDashboard_HasPanelOfEachMetricOfAlerts(t *testing.T) {
	t.Parallel()
	var b board
	require.NoError(t, json.Unmarshal(component(t, "dashboard.json"), &b))
	var shown []string
	for _, p := range b.Panels {
		for _, target := range p.Targets {
			shown = append(shown, metricsOf(t, target.Expr)...)
		}
	}
	object := &unstructured.Unstructured{}
	require.NoError(t, yaml.UnmarshalStrict(component(t, "rules.yaml"), &object.Object))
	all := alerts(t, []*unstructured.Unstructured{object})
	require.NotEmpty(t, all)
	for name, rule := range all {
		for _, metric := range metricsOf(t, rule.expr) {
			assert.Contains(t, shown, metric, "no panel has a metric of %s", name)
		}
	}
}

func TestPage_LinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	for _, page := range []string{page, upgradePage} {
		own := textOf(t, page)
		for _, match := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(own, -1) {
			path, anchor, _ := strings.Cut(match[1], "#")
			switch target := filepath.Join("docs", path); {
			case path == "":
				assert.Contains(t, anchors(own), anchor, "%s: %s", page, match[1])
			case strings.Contains(path, "://"):
			case assert.FileExists(t, filepath.Join(root(), target), "%s: %s", page, match[1]) && anchor != "":
				assert.Contains(t, anchors(textOf(t, target)), anchor, "%s: %s", page, match[1])
			}
		}
	}
}
