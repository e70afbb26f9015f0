// Package architecture holds the module's import graph to the tables of
// docs/architecture.md, and citations of docs/metal-api.md to that page.
package architecture
