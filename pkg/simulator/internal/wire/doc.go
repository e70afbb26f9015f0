// SPDX-License-Identifier: Apache-2.0

// Package wire holds the metal-api's JSON: what requests may carry and what
// answers look like, field for field and in the order of the recordings.
// Types of requests bear the real ones' names, because decoding errors quote
// them (018, 198).
package wire
