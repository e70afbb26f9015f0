// SPDX-License-Identifier: Apache-2.0

// Package projection fills the metal half into records: it turns facts about
// metal into status. It is pure: it answers from facts that are in memory,
// never calls out, never writes a record, and the same record and facts give
// the same object on every server and after every restart.
package projection
