// SPDX-License-Identifier: Apache-2.0

// Package kubectl has the commands of kubectl metal, a plugin of kubectl. They read and
// operate machines and firewalls with the rights that the user has in Kubernetes, and keep
// nothing.
package kubectl
