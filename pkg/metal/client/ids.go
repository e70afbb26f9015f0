// SPDX-License-Identifier: Apache-2.0

package client

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"

	"github.com/go-openapi/runtime"
	"github.com/go-openapi/strfmt"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

var (
	uuidSyntax = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	// nameSyntax is that of the ids that operators choose, of networks and projects. It has neither a slash nor a percent sign, and no id of dots.
	nameSyntax = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$`)
)

// pathIDs are the operations that have an id in their path, and what it can be.
// The metal-api decodes a path before it routes: with "../machine/<id>" as the
// id of a network, another operation would be called than was meant.
var pathIDs = map[string]func(id string) bool{
	"findMachine":        uuidSyntax.MatchString,
	"freeMachine":        uuidSyntax.MatchString,
	"findNetwork":        nameSyntax.MatchString,
	"freeNetwork":        nameSyntax.MatchString,
	"findProject":        nameSyntax.MatchString,
	"findIP":             isAddress,
	"freeIP":             isAddress,
	"allocateSpecificIP": isAddress,

	"findIPMIMachine":       uuidSyntax.MatchString,
	"machineOn":             uuidSyntax.MatchString,
	"machineOff":            uuidSyntax.MatchString,
	"machineReset":          uuidSyntax.MatchString,
	"machineCycle":          uuidSyntax.MatchString,
	"machineDisk":           uuidSyntax.MatchString,
	"machinePxe":            uuidSyntax.MatchString,
	"machineBios":           uuidSyntax.MatchString,
	"chassisIdentifyLEDOn":  uuidSyntax.MatchString,
	"chassisIdentifyLEDOff": uuidSyntax.MatchString,
	"reinstallMachine":      uuidSyntax.MatchString,
	"setMachineState":       uuidSyntax.MatchString,
}

func isAddress(s string) bool {
	address, err := netip.ParseAddr(s)
	return err == nil && address.Zone() == ""
}

// checkedParams writes the parameters of one operation, and refuses to write an
// id into the path that no such thing can have. Nothing is sent then. The kind
// is Refused and not NotFound, which would be taken for an observation that it is gone.
type checkedParams struct {
	runtime.ClientRequestWriter
	id string // of the operation
	op operation
}

// WriteToRequest implements runtime.ClientRequestWriter.
func (p checkedParams) WriteToRequest(r runtime.ClientRequest, formats strfmt.Registry) error {
	return p.ClientRequestWriter.WriteToRequest(checkedRequest{r, p}, formats)
}

type checkedRequest struct {
	runtime.ClientRequest
	params checkedParams
}

// SetPathParam implements runtime.ClientRequest.
func (r checkedRequest) SetPathParam(name, value string) error {
	if valid := pathIDs[r.params.id]; valid == nil || !valid(value) {
		return &metal.Error{Kind: metal.Refused, Op: r.params.op.name, Message: fmt.Sprintf("invalid id %s; no request was sent", quoted(value))}
	}
	return r.ClientRequest.SetPathParam(name, value)
}

// quoted quotes the beginning of what a client wrote.
func quoted(s string) string {
	const limit = 66
	return oneline.Sanitize(strconv.Quote(s), limit)
}
