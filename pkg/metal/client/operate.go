// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-openapi/runtime"
	"github.com/metal-stack/metal-go/api/client/machine"
	"github.com/metal-stack/metal-go/api/models"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// operateCall makes one call whose answer is a machine.
type operateCall func(ctx context.Context, s machine.ClientService, id string, answer *machineDecoder) error

// emptyBody is sent by calls without parameters: without a body, they would have no content
// type, and be answered 415.
var emptyBody models.V1EmptyBody = map[string]any{}

var powerCalls = map[metal.PowerAction]operateCall{
	metal.PowerOn: func(ctx context.Context, s machine.ClientService, id string, answer *machineDecoder) error {
		_, err := s.MachineOn(machine.NewMachineOnParamsWithContext(ctx).WithID(id).WithBody(emptyBody), nil, answer.decodesOne(&machine.MachineOnOK{}))
		return err
	},
	metal.PowerOff: func(ctx context.Context, s machine.ClientService, id string, answer *machineDecoder) error {
		_, err := s.MachineOff(machine.NewMachineOffParamsWithContext(ctx).WithID(id).WithBody(emptyBody), nil, answer.decodesOne(&machine.MachineOffOK{}))
		return err
	},
	metal.PowerReset: func(ctx context.Context, s machine.ClientService, id string, answer *machineDecoder) error {
		_, err := s.MachineReset(machine.NewMachineResetParamsWithContext(ctx).WithID(id).WithBody(emptyBody), nil, answer.decodesOne(&machine.MachineResetOK{}))
		return err
	},
	metal.PowerCycle: func(ctx context.Context, s machine.ClientService, id string, answer *machineDecoder) error {
		_, err := s.MachineCycle(machine.NewMachineCycleParamsWithContext(ctx).WithID(id).WithBody(emptyBody), nil, answer.decodesOne(&machine.MachineCycleOK{}))
		return err
	},
	metal.PowerBootDisk: func(ctx context.Context, s machine.ClientService, id string, answer *machineDecoder) error {
		_, err := s.MachineDisk(machine.NewMachineDiskParamsWithContext(ctx).WithID(id).WithBody(emptyBody), nil, answer.decodesOne(&machine.MachineDiskOK{}))
		return err
	},
	metal.PowerBootPXE: func(ctx context.Context, s machine.ClientService, id string, answer *machineDecoder) error {
		_, err := s.MachinePxe(machine.NewMachinePxeParamsWithContext(ctx).WithID(id).WithBody(emptyBody), nil, answer.decodesOne(&machine.MachinePxeOK{}))
		return err
	},
	metal.PowerBootBIOS: func(ctx context.Context, s machine.ClientService, id string, answer *machineDecoder) error {
		_, err := s.MachineBios(machine.NewMachineBiosParamsWithContext(ctx).WithID(id).WithBody(emptyBody), nil, answer.decodesOne(&machine.MachineBiosOK{}))
		return err
	},
}

// RequestPower sends a power action. It never ends with ctx.
func (c *Client) RequestPower(ctx context.Context, id string, action metal.PowerAction) error {
	call, known := powerCalls[action]
	if !known {
		return &metal.Error{Kind: metal.Refused, Op: "machine power", Message: fmt.Sprintf("unknown power action %s; no request was sent", quoted(string(action)))}
	}
	_, err := c.operate(ctx, "machine power "+string(action), id, call)
	return err
}

// SetLED switches the chassis LED. It never ends with ctx.
func (c *Client) SetLED(ctx context.Context, id string, on bool, description string) error {
	op, call := "machine led off", operateCall(func(ctx context.Context, s machine.ClientService, id string, answer *machineDecoder) error {
		params := machine.NewChassisIdentifyLEDOffParamsWithContext(ctx).WithID(id).WithBody(emptyBody).WithDescription(&description)
		_, err := s.ChassisIdentifyLEDOff(params, nil, answer.decodesOne(&machine.ChassisIdentifyLEDOffOK{}))
		return err
	})
	if on {
		op, call = "machine led on", func(ctx context.Context, s machine.ClientService, id string, answer *machineDecoder) error {
			params := machine.NewChassisIdentifyLEDOnParamsWithContext(ctx).WithID(id).WithBody(emptyBody).WithDescription(&description)
			_, err := s.ChassisIdentifyLEDOn(params, nil, answer.decodesOne(&machine.ChassisIdentifyLEDOnOK{}))
			return err
		}
	}
	_, err := c.operate(ctx, op, id, call)
	return err
}

// Reinstall marks the machine, and sends the request to reboot. The answer is made before the
// machine is stored, so it has the time of the change before. It never ends with ctx.
func (c *Client) Reinstall(ctx context.Context, id, image, description string) (*metal.Machine, error) {
	return c.operate(ctx, "machine reinstall", id, func(ctx context.Context, s machine.ClientService, id string, answer *machineDecoder) error {
		body := &models.V1MachineReinstallRequest{ID: &id, Imageid: &image, Description: description}
		_, err := s.ReinstallMachine(machine.NewReinstallMachineParamsWithContext(ctx).WithID(id).WithBody(body), nil, answer.decodesOne(&machine.ReinstallMachineOK{}))
		return err
	})
}

// SetState sets the state of a machine. It never ends with ctx.
func (c *Client) SetState(ctx context.Context, id, state, description string) (*metal.Machine, error) {
	return c.operate(ctx, "machine state set", id, func(ctx context.Context, s machine.ClientService, id string, answer *machineDecoder) error {
		var none string
		body := &models.V1MachineState{Value: &state, Description: &description, MetalHammerVersion: &none}
		_, err := s.SetMachineState(machine.NewSetMachineStateParamsWithContext(ctx).WithID(id).WithBody(body), nil, answer.decodesOne(&machine.SetMachineStateOK{}))
		return err
	})
}

// operate makes a call that changes a machine.
func (c *Client) operate(ctx context.Context, op, id string, call operateCall) (*metal.Machine, error) {
	return write(ctx, c, op, func(ctx context.Context) (*metal.Machine, error) {
		var answer machineDecoder
		if err := call(ctx, c.api.Machine, id, &answer); err != nil {
			return nil, err
		}
		c.notify(func(l metal.WriteListener) { l.LearnMachine(answer.machine()) })
		return answer.machine(), nil
	})
}

// powerStateAnswer is what is read of a V1MachineIPMIResponse, whose other fields are the
// controller's address, user and password.
type powerStateAnswer struct {
	machineAnswer

	IPMI struct {
		PowerState  string    `json:"powerstate"`
		BMCVersion  string    `json:"bmcversion"`
		LastUpdated time.Time `json:"last_updated"`
	} `json:"ipmi"`
	BIOS struct {
		Version string `json:"version"`
	} `json:"bios"`
}

// PowerState reads what the machine's controller reported last.
func (c *Client) PowerState(ctx context.Context, id string) (*metal.PowerState, error) {
	var a powerStateAnswer
	if _, err := c.api.Machine.FindIPMIMachine(machine.NewFindIPMIMachineParamsWithContext(ctx).WithID(id), nil, decodesInto(&a, &machine.FindIPMIMachineOK{})); err != nil {
		return nil, err
	}
	if a.ID == "" {
		return nil, operations["findIPMIMachine"].wrapError(errNoEntity)
	}
	return &metal.PowerState{
		Machine: a.fact(interner{}), State: a.IPMI.PowerState, Time: roundTime(a.IPMI.LastUpdated),
		BMCVersion: a.IPMI.BMCVersion, BIOSVersion: a.BIOS.Version,
	}, nil
}

// ConsolePassword reads the password of the serial console. It is empty until the installation
// has reported one. No request is sent for an id that no machine can have.
func (c *Client) ConsolePassword(ctx context.Context, id, reason string) (string, error) {
	op := operations["getMachineConsolePassword"]
	if !uuidSyntax.MatchString(id) {
		return "", &metal.Error{Kind: metal.Refused, Op: op.name, Message: fmt.Sprintf("invalid id %s; no request was sent", quoted(id))}
	}
	var answer struct {
		ID       string `json:"id"`
		Password string `json:"console_password"`
	}
	body := &models.V1MachineConsolePasswordRequest{ID: &id, Reason: &reason}
	params := machine.NewGetMachineConsolePasswordParamsWithContext(ctx).WithBody(body)
	if _, err := c.api.Machine.GetMachineConsolePassword(params, nil, decodesInto(&answer, &machine.GetMachineConsolePasswordOK{})); err != nil {
		return "", err
	}
	if answer.ID != id {
		return "", op.wrapError(errNoEntity)
	}
	return answer.Password, nil
}

// layoutAnswer is what is read of a V1MachineResponse for a Layout.
type layoutAnswer struct {
	ID         string `json:"id"`
	Allocation *struct {
		UUID   string `json:"allocationuuid"`
		Layout struct {
			ID          string       `json:"id"`
			Disks       []diskAnswer `json:"disks"`
			Constraints struct {
				Images map[string]string `json:"images"`
			} `json:"constraints"`
		} `json:"filesystemlayout"`
	} `json:"allocation"`
}

type diskAnswer struct {
	WipeOnReinstall bool `json:"wipeonreinstall"`
}

// Layout reads the file system layout of a machine's allocation. NotFound proves nothing, as
// of Machine; it is NotFound, too, if the machine is not allocated.
func (c *Client) Layout(ctx context.Context, id string) (*metal.Layout, error) {
	var answer layoutAnswer
	if _, err := c.api.Machine.FindMachine(machine.NewFindMachineParamsWithContext(ctx).WithID(id), nil, decodesInto(&answer, &machine.FindMachineOK{})); err != nil {
		return nil, err
	}
	a := answer.Allocation
	if a == nil {
		return nil, &metal.Error{Kind: metal.NotFound, Op: operations["findMachine"].name, Message: "the machine is not allocated"}
	}
	layout := &metal.Layout{ID: a.Layout.ID, AllocationUUID: a.UUID, Images: a.Layout.Constraints.Images}
	layout.Reinstallable = slices.ContainsFunc(a.Layout.Disks, func(d diskAnswer) bool { return d.WipeOnReinstall })
	return layout, nil
}

// errUnreadable says nothing of what was read, which may be a secret.
var errUnreadable = errors.New("the answer cannot be decoded")

// decodesInto makes an operation read its answer into v, and return result, which stays
// empty.
func decodesInto(v, result any) func(*runtime.ClientOperation) {
	return func(op *runtime.ClientOperation) {
		op.Reader = runtime.ClientResponseReaderFunc(func(response runtime.ClientResponse, _ runtime.Consumer) (any, error) {
			d := newMachineReader(response.Body())
			if err := json.UnmarshalDecode(d, v); err != nil {
				return nil, errUnreadable
			}
			if err := tokenAtEnd(d); err != nil {
				return nil, errUnreadable
			}
			return result, nil
		})
	}
}
