package metal

import (
	"context"
	"net/http"
	"time"

	"k8s.io/utils/clock"
)

// Options configure a Client.
type Options struct {
	// URL is the metal-api's, with its base path, e.g. https://api.example/metal.
	URL string
	// HMAC is the shared secret, AuthType its role: AuthAdmin or AuthEdit.
	HMAC     string
	AuthType string
	// Timeouts are the deadlines of calls; zero fields get DefaultTimeouts'.
	Timeouts Timeouts
	// Clock is the source of time; default the real one.
	Clock clock.WithTicker
	// Transport is the HTTP transport; default a pooled one of its own.
	Transport http.RoundTripper
}

// The technical users of the metal-api. Edit is enough for all that this
// project does.
const (
	AuthAdmin = "Metal-Admin"
	AuthEdit  = "Metal-Edit"
)

// Timeouts are the deadlines of calls by what they cost.
type Timeouts struct {
	// Get is for one entity by its id, Find for a query, List for a fleet.
	Get, Find, List time.Duration
	// Allocate is for allocations and Free for frees. They do not end with
	// their caller.
	Allocate, Free time.Duration
}

// DefaultTimeouts leave room for a metal-api that is ten times as slow as the
// measured one (README, "What calls cost").
var DefaultTimeouts = Timeouts{
	Get:      5 * time.Second,
	Find:     15 * time.Second,
	List:     60 * time.Second,
	Allocate: 5 * time.Minute,
	Free:     2 * time.Minute,
}

// Client is the port to the metal-api. Its methods return *Error and nothing
// else. Reads end with their context. Writes do not: a caller whose context
// ends gets an Uncertain error at once, the call goes on to its own deadline.
type Client struct{}

// NewClient returns a client; it does not call.
func NewClient(opts Options) (*Client, error) { return &Client{}, nil }

// SetHMAC replaces the credential for the calls that begin from now on.
func (c *Client) SetHMAC(hmac, authType string) {}

// Drain waits until no write is under way any more, or ctx ends.
func (c *Client) Drain(ctx context.Context) error { return nil }

// Machine gets a machine by id. NotFound proves nothing: a machine without an
// event container answers it too (327).
func (c *Client) Machine(ctx context.Context, id string) (*Machine, error) { return nil, nil }

// FindMachines returns the machines that match; it costs as much as the fleet is large.
func (c *Client) FindMachines(ctx context.Context, q MachineQuery) ([]*Machine, error) {
	return nil, nil
}

// ListMachines returns all machines.
func (c *Client) ListMachines(ctx context.Context) ([]*Machine, error) { return nil, nil }

// AllocateMachine turns a request into a machine.
func (c *Client) AllocateMachine(ctx context.Context, r MachineRequest) (*Machine, error) {
	return nil, nil
}

// AllocateFirewall turns a request into a firewall.
func (c *Client) AllocateFirewall(ctx context.Context, r FirewallRequest) (*Machine, error) {
	return nil, nil
}

// FreeMachine ends the allocation of a machine or firewall. It succeeds on one
// that is not allocated, and takes it out of the pool (200): look first.
func (c *Client) FreeMachine(ctx context.Context, id string) (*Machine, error) { return nil, nil }

// Network gets a network by id.
func (c *Client) Network(ctx context.Context, id string) (*Network, error) { return nil, nil }

// FindNetworks returns the networks that match.
func (c *Client) FindNetworks(ctx context.Context, q NetworkQuery) ([]*Network, error) {
	return nil, nil
}

// AllocateNetwork allocates a private network.
func (c *Client) AllocateNetwork(ctx context.Context, r NetworkRequest) (*Network, error) {
	return nil, nil
}

// FreeNetwork frees a private network. Make sure that it has no IPs left: a
// dual-stack network that is freed too early is wrecked for good (513-520).
func (c *Client) FreeNetwork(ctx context.Context, id string) (*Network, error) { return nil, nil }

// IP gets an address.
func (c *Client) IP(ctx context.Context, address string) (*IP, error) { return nil, nil }

// FindIPs returns the addresses that match.
func (c *Client) FindIPs(ctx context.Context, q IPQuery) ([]*IP, error) { return nil, nil }

// AllocateIP allocates a certain address or any of a network.
func (c *Client) AllocateIP(ctx context.Context, r IPRequest) (*IP, error) { return nil, nil }

// FreeIP frees an address.
func (c *Client) FreeIP(ctx context.Context, address string) (*IP, error) { return nil, nil }
