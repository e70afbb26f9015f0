// SPDX-License-Identifier: Apache-2.0

// Command apidocs writes docs/api.md, the reference of all kinds and fields, from the OpenAPI
// that the server answers with, the values of enumerations in the types' source, and the
// defaulting functions. hack/update-codegen.sh runs it, from the root of the repository, after
// everything else was generated.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	out := flag.String("out", "docs/api.md", "the file to write")
	flag.Parse()
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "apidocs:", err)
		os.Exit(1)
	}
}

func run(out string) error {
	page, err := render(".")
	if err != nil {
		return err
	}
	return os.WriteFile(out, []byte(page), 0o644)
}

// render returns the page. The sources of the types are read below root.
func render(root string) (string, error) {
	p := newPage()
	for _, g := range groups {
		e, err := readEnumerations(root, g.sources)
		if err != nil {
			return "", err
		}
		m, err := newModel(g, e)
		if err != nil {
			return "", err
		}
		p.models = append(p.models, m)
	}
	return p.render()
}
