// SPDX-License-Identifier: Apache-2.0

// Package recordformat says in which format records are written, and which formats
// are read. The value of every record is a JSON object that says its format.
//
// A new format is read by one minor release before it is written by the next one. So
// a rollback by one minor release finds no record that it cannot read.
//
// It must never interpret more of a value than which format it has, and who wrote it.
package recordformat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
	"metal-stack.io/infrastructure-apiserver/pkg/version"
)

// The formats of this release. docs/records.md describes each, and when they change.
const (
	// Written is the format of the records that are written.
	Written = 1
	// Newest is the newest format that is read; all older ones are, too.
	Newest = 1
)

var prefix = `{"format":` + strconv.Itoa(Written)

// Prefix returns how a value in the format Written begins, up to the brace or comma
// that follows.
func Prefix() string { return prefix }

// maxQuoted is how much of what a record says gets into a message.
const maxQuoted = 64

// Header is what a value of any format says of itself. The two fields have the same
// names and meanings in all formats.
type Header struct {
	// Format is 1 for records that were written before they had the field.
	Format int
	// WrittenBy is the version of the server that wrote it; empty in most records, and
	// not read from those of the format Written.
	WrittenBy string
}

// Read returns the header of a value. It returns an error if value is not a JSON
// object, or its format not a positive integer: then the record is damaged.
func Read(value []byte) (Header, error) {
	if rest, ok := bytes.CutPrefix(value, []byte(prefix)); ok && len(rest) > 0 && (rest[0] == ',' || rest[0] == '}') {
		return Header{Format: Written}, nil // nearly all are, and the rest of it needs no decoding here
	}
	var found struct {
		Format    json.RawMessage `json:"format"`
		WrittenBy json.RawMessage `json:"writtenBy"`
	}
	if err := json.Unmarshal(value, &found); err != nil {
		return Header{}, err
	}
	h := Header{Format: 1}
	if found.Format != nil {
		n, err := strconv.ParseInt(string(found.Format), 10, 64)
		if err != nil || n < 1 || n > math.MaxInt32 {
			return Header{}, fmt.Errorf("%w: %s: must be an integer from 1 to %d, or be left out, which means 1", ErrMalformed, oneline.Sanitize(string(found.Format), maxQuoted), Newest)
		}
		h.Format = int(n)
	}
	_ = json.Unmarshal(found.WrittenBy, &h.WrittenBy) // it only makes messages more exact
	return h, nil
}

// Check returns a *NewerError if value has a newer format than Newest, and another error
// if it is damaged.
func Check(value []byte) error {
	h, err := Read(value)
	if err != nil {
		return err
	}
	if h.Format > Newest {
		return &NewerError{Format: h.Format, WrittenBy: h.WrittenBy}
	}
	return nil
}

// ErrMalformed is wrapped by the errors about a format that is no positive integer.
var ErrMalformed = errors.New("malformed format")

// NewerError is the error of a server that has met a record of a newer format.
type NewerError struct {
	// Format is the newest format that was found.
	Format int
	// WrittenBy is the version of the server that wrote such a record, if one says it.
	WrittenBy string
}

// Error implements error.
func (e *NewerError) Error() string {
	by := ""
	if e.WrittenBy != "" {
		by = fmt.Sprintf(", written by %s", oneline.Sanitize(e.WrittenBy, maxQuoted))
	}
	return fmt.Sprintf("records have format %d%s; this server %s reads formats up to %d: upgrade the server", e.Format, by, version.Get().Version, Newest)
}

// IsNewer returns whether err is, or wraps, a NewerError.
func IsNewer(err error) bool {
	var newer *NewerError
	return errors.As(err, &newer)
}
