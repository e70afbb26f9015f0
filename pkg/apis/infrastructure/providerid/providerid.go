// SPDX-License-Identifier: Apache-2.0

// Package providerid reads and writes the provider IDs of machines.
//
// Three forms are accepted, one is written: metal://<partition>/<id>, because
// that is what metal-ccm writes on Nodes, and Cluster API finds the Node of a
// Machine by comparing the two byte for byte. For the same reason a provider ID
// that a user wrote is never rewritten.
package providerid

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/google/uuid"
)

const (
	// scheme is what metal-ccm uses.
	scheme = "metal://"
	// ArchivedScheme is what cluster-api-provider-metalstack used.
	ArchivedScheme = "metalstack://"
)

// ID is a parsed provider ID.
type ID struct {
	// Partition is empty if the provider ID does not name it.
	Partition string
	// MachineID is the machine's UUID, in lower case.
	MachineID string
}

// String returns the ID in the form that the server writes.
func (id ID) String() string {
	return New(id.Partition, id.MachineID)
}

// New returns a provider ID in the form that the server writes. Without a partition
// it is metal:///<id>.
func New(partition, machineID string) string {
	return scheme + partition + "/" + machineID
}

var (
	errNoScheme = fmt.Errorf("must begin with %q or %q; %s", scheme, ArchivedScheme, forms)
	errNoID     = fmt.Errorf("must contain a machine id; %s", forms)
	errSlashes  = fmt.Errorf("must not have a path after the machine id; %s", forms)
	errNoUUID   = errors.New("must end in the id of a machine, which is a UUID in lower case such as 2294c949-88f6-5390-8154-fa53d93a3313")
)

const forms = "a provider ID is metal://<partition>/<id>, metal:///<id> or metalstack://<id>"

// partitionSyntax is that of a label value, which a partition's id becomes.
var partitionSyntax = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$`)

// Parse parses a provider ID. An error says what is wrong and what is allowed; it
// is left to the caller to quote the provider ID.
func Parse(providerID string) (ID, error) {
	if machineID, ok := strings.CutPrefix(providerID, ArchivedScheme); ok {
		return parseMachineID("", machineID)
	}
	rest, ok := strings.CutPrefix(providerID, scheme)
	if !ok {
		return ID{}, errNoScheme
	}
	partition, machineID, ok := strings.Cut(rest, "/")
	if !ok {
		return ID{}, errNoID
	}
	if !partitionSyntax.MatchString(partition) {
		return ID{}, fmt.Errorf("invalid partition %q; %s", partition, forms)
	}
	return parseMachineID(partition, machineID)
}

func parseMachineID(partition, machineID string) (ID, error) {
	switch {
	case machineID == "":
		return ID{}, errNoID
	case strings.Contains(machineID, "/"):
		return ID{}, errSlashes
	case !IsMachineID(machineID):
		return ID{}, errNoUUID
	}
	return ID{Partition: partition, MachineID: machineID}, nil
}

// IsMachineID reports whether a string can be the id of a machine: a UUID in
// lower case, in its one spelling of 36 characters. The other spellings of a
// UUID would be other strings to the metal-api.
func IsMachineID(s string) bool {
	parsed, err := uuid.Parse(s)
	return err == nil && parsed.String() == s
}
