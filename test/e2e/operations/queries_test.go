// SPDX-License-Identifier: Apache-2.0

package operations_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/component-base/metrics/testutil"
)

// selector is what a query asks for: a metric, and what its labels must be.
type selector struct {
	metric   string
	matchers []matcher
}

// matcher is one condition on a label, as in PromQL.
type matcher struct{ label, operator, value string }

// query is what there is to check in a query without evaluating it.
type query struct {
	selectors []selector
	// grouping are the labels that the query groups by.
	grouping []string
}

var (
	stringForm   = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	groupingForm = regexp.MustCompile(`\b(?:by|without|on|ignoring)\s*\(([^()]*)\)`)
	selectorForm = regexp.MustCompile(`([a-zA-Z_:][\w:]*)\s*(\{[^{}]*\}|\()?`)
	matcherForm  = regexp.MustCompile(`^\s*(\w+)\s*(=~|!~|!=|=)\s*"(\d+)"\s*$`)
	rangeForm    = regexp.MustCompile(`\[[\w$]+\]`)
	numberForm   = regexp.MustCompile(`\b\d+(\.\d+)?\b`)
)

// aggregated is whether a query begins with an operator that drops the labels it does not group by.
var aggregated = regexp.MustCompile(`^[\s(]*(?:histogram_quantile\([\d.]+,\s*)?(?:sum|max|min|count|avg)\b`)

// words are those of PromQL that look like metrics.
var words = []string{"and", "or", "unless", "bool", "offset", "on", "by"}

// parse takes a query apart. It knows as much of PromQL as is used here.
func parse(text string) (query, error) {
	var q query
	var literals []string
	text = stringForm.ReplaceAllStringFunc(text, func(literal string) string {
		literals = append(literals, literal)
		return strconv.Quote(strconv.Itoa(len(literals) - 1))
	})
	for _, pair := range []string{"()", "{}", "[]"} {
		if strings.Count(text, pair[:1]) != strings.Count(text, pair[1:]) {
			return q, fmt.Errorf("unbalanced %s", pair)
		}
	}
	text = groupingForm.ReplaceAllStringFunc(text, func(clause string) string {
		for label := range strings.SplitSeq(groupingForm.FindStringSubmatch(clause)[1], ",") {
			q.grouping = append(q.grouping, strings.TrimSpace(label))
		}
		return ""
	})
	text = rangeForm.ReplaceAllString(text, "")
	text = selectorForm.ReplaceAllStringFunc(text, func(found string) string {
		match := selectorForm.FindStringSubmatch(found)
		name, rest := match[1], match[2]
		if rest == "(" || slices.Contains(words, name) {
			return rest
		}
		s := selector{metric: name}
		if rest = strings.Trim(rest, "{}"); rest != "" {
			for condition := range strings.SplitSeq(rest, ",") {
				parts := matcherForm.FindStringSubmatch(condition)
				if parts == nil {
					s.matchers = append(s.matchers, matcher{operator: condition})
					continue
				}
				index, _ := strconv.Atoi(parts[3])
				value, _ := strconv.Unquote(literals[index])
				s.matchers = append(s.matchers, matcher{parts[1], parts[2], value})
			}
		}
		q.selectors = append(q.selectors, s)
		return ""
	})
	// Numbers, functions' commas and operators are left.
	if rest := strings.Trim(numberForm.ReplaceAllString(text, ""), " \n,()+-*/<>=!"); rest != "" {
		return q, fmt.Errorf("what is %q?", rest)
	}
	if len(q.selectors) == 0 {
		return q, fmt.Errorf("it asks for nothing")
	}
	return q, nil
}

// attached are the labels that Prometheus adds when it scrapes.
var attached = []string{"job", "namespace", "pod", "instance"}

// matches is whether a sample is what the matcher asks for.
func (m matcher) matches(sample *testutil.Sample) bool {
	if slices.Contains(attached, m.label) {
		return true
	}
	value := string(sample.Metric[testutil.LabelName(m.label)])
	switch m.operator {
	case "=":
		return value == m.value
	case "!=":
		return value != m.value
	}
	matched := regexp.MustCompile("^(?:" + m.value + ")$").MatchString(value)
	return matched == (m.operator == "=~")
}

// check returns what is wrong with a query, given what can be scraped.
func (q query) check(samples testutil.Metrics) (problems []string) {
	known := slices.Clone(attached)
	known = append(known, "le")
	for _, s := range q.selectors {
		found := samples[s.metric]
		if len(found) == 0 {
			problems = append(problems, "there is no metric "+s.metric)
			continue
		}
		for label := range found[0].Metric {
			known = append(known, string(label))
		}
		matched := slices.ContainsFunc(found, func(sample *testutil.Sample) bool {
			return !slices.ContainsFunc(s.matchers, func(m matcher) bool {
				// Which errors there are is not for this test to bring about.
				return m.label != "code" && !m.matches(sample)
			})
		})
		if !matched {
			problems = append(problems, fmt.Sprintf("no sample of %s is as %v asks", s.metric, s.matchers))
		}
		for _, m := range s.matchers {
			if _, ok := found[0].Metric[testutil.LabelName(m.label)]; !ok && !slices.Contains(attached, m.label) {
				problems = append(problems, fmt.Sprintf("%s has no label %s", s.metric, m.label))
			}
		}
	}
	for _, label := range q.grouping {
		if !slices.Contains(known, label) {
			problems = append(problems, "nothing has the label "+label)
		}
	}
	return problems
}

// labels are those that the series of a query have, as legends and texts of alerts name them.
func (q query) labels(text string, samples testutil.Metrics) []string {
	if aggregated.MatchString(text) {
		return slices.DeleteFunc(slices.Clone(q.grouping), func(label string) bool { return label == "le" })
	}
	all := slices.Clone(attached)
	for _, s := range q.selectors {
		for _, sample := range samples[s.metric] {
			for label := range sample.Metric {
				all = append(all, string(label))
			}
		}
	}
	return all
}

var (
	legendForm   = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)
	textForm     = regexp.MustCompile(`\$labels\.(\w+)`)
	variableForm = regexp.MustCompile(`^label_values\((.+),\s*(\w+)\)$`)
)

// unknownLabels are the labels that a text names, by form, and that the series of a query do not have.
func unknownLabels(form *regexp.Regexp, named, text string, samples testutil.Metrics) (problems []string) {
	q, err := parse(text)
	if err != nil {
		return []string{err.Error()}
	}
	for _, match := range form.FindAllStringSubmatch(named, -1) {
		if !slices.Contains(q.labels(text, samples), match[1]) {
			problems = append(problems, fmt.Sprintf("%q names the label %s, which the query's series do not have", named, match[1]))
		}
	}
	return problems
}

// askedFor holds all queries against what the running programs show.
func (env *environment) askedFor(t *testing.T) {
	samples := env.scrapeAll(t)
	all := map[string]string{}
	for name, rule := range alerts(t, env.monitoring) {
		all["alert "+name] = rule.expr
		for _, annotation := range rule.annotations {
			assert.Empty(t, unknownLabels(textForm, annotation, rule.expr, samples), name)
		}
	}
	board := dashboard(t, env.monitoring)
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			where := fmt.Sprintf("panel %d %s, %s", p.ID, p.Title, target.RefID)
			all[where] = target.Expr
			assert.Empty(t, unknownLabels(legendForm, target.LegendFormat, target.Expr, samples), where)
		}
	}
	for name, text := range board.variables(t) {
		match := variableForm.FindStringSubmatch(text)
		if assert.NotNil(t, match, "variable %s: %s", name, text) {
			all["variable "+name] = match[1]
			assert.Empty(t, unknownLabels(legendForm, "{{"+match[2]+"}}", match[1], samples), name)
		}
	}
	assert.Empty(t, board.Annotations.List, "annotations of the dashboard have queries, which are not checked")
	require.Greater(t, len(all), 40)
	for where, text := range all {
		q, err := parse(text)
		if !assert.NoError(t, err, "%s: %s", where, text) {
			continue
		}
		for _, problem := range q.check(samples) {
			assert.Fail(t, problem, "%s: %s", where, text)
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(metalstack_\\w+)(?:\\{([^}]*)\\})?` \\|").FindAllStringSubmatch(text(t), -1) {
		metric, labels := row[1], row[2]
		found := samples[metric]
		if len(found) == 0 {
			found = samples[metric+"_bucket"]
		}
		if !assert.NotEmpty(t, found, "%s names %s", page, metric) {
			continue
		}
		var has []string
		for label := range found[0].Metric {
			if label != "__name__" && label != "le" {
				has = append(has, string(label))
			}
		}
		var labelNames []string
		if labels != "" {
			labelNames = strings.Split(labels, ",")
		}
		assert.ElementsMatch(t, labelNames, has, metric)
	}
}

func TestQueries_LabelsThatTheirSeriesDoNotHaveAreFound(t *testing.T) {
	t.Parallel()
	samples := testutil.NewMetrics()
	require.NoError(t, testutil.ParseMetrics("calls_total{operation=\"get\",outcome=\"OK\"} 1\nx_bucket{verb=\"get\",le=\"1\"} 1\n", &samples))
	for text, labels := range map[string][]string{
		`calls_total`: {"operation", "outcome", "pod"},
		`sum by (outcome) (rate(calls_total[5m]))`:                         {"outcome"},
		`histogram_quantile(0.99, sum by (verb, le) (rate(x_bucket[5m])))`: {"verb"},
	} {
		for _, label := range []string{"operation", "outcome", "pod", "verb", "le", "other"} {
			problems := unknownLabels(legendForm, "of {{"+label+"}}", text, samples)
			assert.Equal(t, slices.Contains(labels, label), len(problems) == 0, "%s: %s: %v", text, label, problems)
		}
	}
	assert.Contains(t, fmt.Sprint(unknownLabels(textForm, "{{ $labels.pod }}", `sum(calls_total)`, samples)), "the label pod")
}

func TestQueries_ForMissingSeriesAreFound(t *testing.T) {
	t.Parallel()
	samples := testutil.NewMetrics()
	require.NoError(t, testutil.ParseMetrics("calls_total{operation=\"get\",outcome=\"OK\"} 1\nage_seconds 5\n", &samples))
	for text, problem := range map[string]string{
		`sum by (operation, pod) (rate(calls_total{outcome=~"O.", namespace="x"}[5m])) > 0 unless age_seconds == 3 * 2`: "",
		`absent(age_seconds == 1)`:                    "",
		`rate(call_total[5m])`:                        "no metric call_total",
		`rate(calls_total{outcome="Ok"}[5m])`:         "no sample of calls_total",
		`rate(calls_total{result="OK"}[5m])`:          "no label result",
		`sum by (verb) (rate(calls_total[5m]))`:       "the label verb",
		`sum(rate(calls_total[5m])`:                   "unbalanced ()",
		`age_seconds{outcome~"OK"} > 1`:               "no sample",
		`5 > 4`:                                       "asks for nothing",
		`age_seconds % 3`:                             `what is "%"`,
		`histogram_quantile(0.9, rate(x_bucket[1m]))`: "no metric x_bucket",
	} {
		q, err := parse(text)
		problems := fmt.Sprint(q.check(samples))
		if err != nil {
			problems = err.Error()
		}
		if problem == "" {
			assert.Equal(t, "[]", problems, text)
		} else {
			assert.Contains(t, problems, problem, text)
		}
	}
}
