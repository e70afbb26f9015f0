// SPDX-License-Identifier: Apache-2.0

package metalccm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	metalgo "github.com/metal-stack/metal-go"
	"github.com/metal-stack/metal-go/api/client/health"
	"github.com/metal-stack/metal-go/api/client/ip"
	"github.com/metal-stack/metal-go/api/client/machine"
	"github.com/metal-stack/metal-go/api/models"
	"github.com/metal-stack/metal-lib/pkg/tag"
	"k8s.io/apimachinery/pkg/util/rand"
)

// namePrefix begins the names of addresses that are allocated.
const namePrefix = "metallb-"

// cloud asks the metal-api.
type cloud struct {
	Environment

	api metalgo.Client
}

func newCloud(e Environment) (*cloud, error) {
	options := []metalgo.ClientOption{metalgo.BearerToken(e.Token)}
	if len(e.Authorities) > 0 {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(e.Authorities) {
			return nil, errors.New("SSL_CERT_FILE has no certificate")
		}
		options = append(options, metalgo.TLSClientConfig(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}))
	}
	api, err := metalgo.NewClient(e.URL, options...)
	return &cloud{e, api}, err
}

// health fails unless the metal-api says that it is healthy.
func (c *cloud) health(ctx context.Context) error {
	answer, err := c.api.Health().Health(health.NewHealthParamsWithContext(ctx), nil)
	if err != nil {
		return fmt.Errorf("metal-api health endpoint not reachable: %w", err)
	}
	if answer.Payload.Status == nil || *answer.Payload.Status != "healthy" {
		return errors.New("metal-api not healthy")
	}
	return nil
}

// machine returns a machine that is allocated in the project.
func (c *cloud) machine(ctx context.Context, id string) (*models.V1MachineResponse, error) {
	answer, err := c.api.Machine().FindMachine(machine.NewFindMachineParamsWithContext(ctx).WithID(id), nil)
	if err != nil {
		return nil, err
	}
	allocation := answer.Payload.Allocation
	if allocation == nil || allocation.Project == nil {
		return nil, fmt.Errorf("machine %q is not allocated", id)
	}
	if *allocation.Project != c.Project {
		return nil, fmt.Errorf("machine %q is allocated in the wrong project: %q", id, *allocation.Project)
	}
	return answer.Payload, nil
}

func (c *cloud) machineByHostname(ctx context.Context, hostname string) (*models.V1MachineResponse, error) {
	answer, err := c.api.Machine().FindMachines(machine.NewFindMachinesParamsWithContext(ctx).WithBody(&models.V1MachineFindRequest{
		AllocationHostname: hostname, AllocationProject: c.Project,
	}), nil)
	if err != nil {
		return nil, err
	}
	if len(answer.Payload) != 1 {
		return nil, fmt.Errorf("not exactly one machine was found for hostname: %q", hostname)
	}
	return answer.Payload[0], nil
}

func (c *cloud) updateMachineTags(ctx context.Context, id string, tags []string) error {
	_, err := c.api.Machine().UpdateMachine(machine.NewUpdateMachineParamsWithContext(ctx).WithBody(&models.V1MachineUpdateRequest{ID: &id, Tags: tags}), nil)
	return err
}

func (c *cloud) findIPs(ctx context.Context, wanted models.V1IPFindRequest) ([]*models.V1IPResponse, error) {
	wanted.Projectid = c.Project
	answer, err := c.api.IP().FindIPs(ip.NewFindIPsParamsWithContext(ctx).WithBody(&wanted), nil)
	if err != nil {
		return nil, err
	}
	return answer.Payload, nil
}

// clusterIPs are the addresses of Services of the cluster. Whose an address is, is decided
// by the beginning of the cluster id, as metal-ccm does.
func (c *cloud) clusterIPs(ctx context.Context) ([]*models.V1IPResponse, error) {
	all, err := c.findIPs(ctx, models.V1IPFindRequest{})
	if err != nil {
		return nil, err
	}
	var found []*models.V1IPResponse
	for _, address := range all {
		tags := tag.NewTagMap(address.Tags)
		if _, machines := tags.Value(tag.MachineID); machines {
			continue
		}
		if _, egress := tags.Value(tag.ClusterEgress); egress {
			continue
		}
		for _, t := range address.Tags {
			key, value, _ := strings.Cut(t, "=")
			if strings.HasPrefix(key, tag.ClusterID) && strings.HasPrefix(value, c.Cluster) {
				found = append(found, address)
				break
			}
		}
	}
	return found, nil
}

// projectIP returns an address of the project.
func (c *cloud) projectIP(ctx context.Context, address string) (*models.V1IPResponse, error) {
	found, err := c.findIPs(ctx, models.V1IPFindRequest{Ipaddress: address})
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("ip %s for projectID: %s not allocated", address, c.Project)
	}
	return found[0], nil
}

func (c *cloud) allocateIP(ctx context.Context, network, serviceTag string) (*models.V1IPResponse, error) {
	ephemeral := models.V1IPBaseTypeEphemeral
	answer, err := c.api.IP().AllocateIP(ip.NewAllocateIPParamsWithContext(ctx).WithBody(&models.V1IPAllocateRequest{
		Name: namePrefix + rand.String(5), Projectid: &c.Project, Networkid: &network, Type: &ephemeral, Tags: []string{serviceTag},
	}), nil)
	if err != nil {
		return nil, fmt.Errorf("failed to acquire IPs for project %q in network %q: %w", c.Project, network, err)
	}
	return answer.Payload, nil
}

func (c *cloud) updateIPTags(ctx context.Context, address string, tags []string) error {
	_, err := c.api.IP().UpdateIP(ip.NewUpdateIPParamsWithContext(ctx).WithBody(&models.V1IPUpdateRequest{Ipaddress: &address, Tags: tags}), nil)
	return err
}

func (c *cloud) freeIP(ctx context.Context, address string) error {
	_, err := c.api.IP().FreeIP(ip.NewFreeIPParamsWithContext(ctx).WithID(address), nil)
	return err
}

// serviceTag is on the address of a Service.
func (c *cloud) serviceTag(namespace, service string) string {
	return tag.New(tag.ClusterServiceFQN, c.Cluster+"/"+namespace+"/"+service)
}
