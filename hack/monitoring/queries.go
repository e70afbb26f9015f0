// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
)

// query is one of a panel, of a variable or of an alert.
type query struct {
	where, text string
	// alert says that it returns nothing as long as all is well.
	alert bool
}

// rules is the PrometheusRule of the component.
type rules struct {
	Spec struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []struct {
				Alert       string            `json:"alert"`
				Expr        string            `json:"expr"`
				For         string            `json:"for,omitempty"`
				Labels      map[string]string `json:"labels,omitempty"`
				Annotations map[string]string `json:"annotations,omitempty"`
			} `json:"rules"`
		} `json:"groups"`
	} `json:"spec"`
}

func readRules(file string) (*rules, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var r rules
	if err := yaml.Unmarshal(content, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &r, nil
}

func (r *rules) queries() []query {
	var all []query
	for _, group := range r.Spec.Groups {
		for _, rule := range group.Rules {
			all = append(all, query{where: "alert " + rule.Alert, text: rule.Expr, alert: true})
		}
	}
	return all
}

// variables are those of the dashboard, as for all namespaces and a short interval.
var variables = strings.NewReplacer("$namespace", ".*", "$__rate_interval", "1m")

// readDashboard returns the queries of all panels.
func readDashboard(file string) ([]query, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var board struct {
		Panels []struct {
			ID      int    `json:"id"`
			Title   string `json:"title"`
			Targets []struct {
				RefID string `json:"refId"`
				Expr  string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	if err := json.Unmarshal(content, &board); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var all []query
	for _, panel := range board.Panels {
		for _, target := range panel.Targets {
			all = append(all, query{where: fmt.Sprintf("panel %d %s, %s", panel.ID, panel.Title, target.RefID), text: variables.Replace(target.Expr)})
		}
	}
	return all, nil
}
