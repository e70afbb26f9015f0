// SPDX-License-Identifier: Apache-2.0

// Package architecture holds the module's import graph to the tables of
// docs/architecture.md, citations of docs/metal-api.md to that page, and the map
// of folders in docs/development.md to what there is.
package architecture
