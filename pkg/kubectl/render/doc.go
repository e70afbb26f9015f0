// SPDX-License-Identifier: Apache-2.0

// Package render lays out what kubectl metal prints for people: tables and trees that fit a
// terminal, colours, ages. It never prints a control character of a text that it is given.
package render
