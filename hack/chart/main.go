// SPDX-License-Identifier: Apache-2.0

// Command chart makes what the Helm chart in artifacts/charts has no values for: templates
// of the objects in artifacts/deploy, and the table of values in the chart's README.md.
// Objects that values change are templates that are written by hand; test/e2e/chart
// holds them to artifacts/deploy.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// chartDir is the chart's directory in the repository, and generatedDir that of its
// generated templates in the chart.
const (
	deployDir    = "artifacts/deploy"
	chartDir     = "artifacts/charts/metalstack-apiserver"
	generatedDir = "templates/generated"
)

func main() {
	root := flag.String("root", ".", "root of the repository")
	flag.Parse()
	if err := generate(*root); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func generate(root string) error {
	rendered, err := renderVariants(filepath.Join(root, deployDir))
	if err != nil {
		return err
	}
	files, err := templates(rendered)
	if err != nil {
		return err
	}
	chart := filepath.Join(root, chartDir)
	dir := filepath.Join(chart, generatedDir)
	// Files of sources that are gone must not stay.
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return writeValuesTable(chart)
}

func writeValuesTable(chart string) error {
	values, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		return err
	}
	table, err := valuesTable(values)
	if err != nil {
		return fmt.Errorf("values.yaml: %w", err)
	}
	path := filepath.Join(chart, "README.md")
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err := replaceTable(string(page), table)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
