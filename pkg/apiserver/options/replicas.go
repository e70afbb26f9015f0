// SPDX-License-Identifier: Apache-2.0

package options

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/tools/leaderelection"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/replica"
)

// PodVariable is the environment variable of the name of the server's own Pod.
const PodVariable = "POD_NAME"

// Replicas are the options of leader election among several servers.
type Replicas struct {
	LeaderElect         bool
	LeaseDuration       time.Duration
	RenewDeadline       time.Duration
	RetryPeriod         time.Duration
	HandoverGracePeriod time.Duration
}

// NewReplicas returns the defaults, which are those of Kubernetes' own programs.
func NewReplicas() *Replicas {
	return &Replicas{
		LeaderElect: true, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		HandoverGracePeriod: 5 * time.Second,
	}
}

// AddFlags adds the flags.
func (o *Replicas) AddFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.LeaderElect, "leader-elect", o.LeaderElect, "Serve and write only while holding the Lease in --namespace that has the name of the Service, and stand by otherwise. "+
		"If false, no more than one server may run at a time.")
	fs.DurationVar(&o.LeaseDuration, "leader-elect-lease-duration", o.LeaseDuration, "Duration, in whole seconds, that a standby server waits after the last renewal of the Lease before it acquires the Lease.")
	fs.DurationVar(&o.RenewDeadline, "leader-elect-renew-deadline", o.RenewDeadline, "Duration for which the active server retries to renew the Lease before it exits.")
	fs.DurationVar(&o.RetryPeriod, "leader-elect-retry-period", o.RetryPeriod, "Interval between attempts to acquire or renew the Lease.")
	fs.DurationVar(&o.HandoverGracePeriod, "handover-grace-period", o.HandoverGracePeriod, "Duration for which a server that has handed over leadership still answers requests, with 503 and Retry-After. It must be longer than the cluster takes to route new connections to the successor.")
}

// Validate returns all errors.
func (o *Replicas) Validate() []error {
	var errs []error
	if o.HandoverGracePeriod < 0 {
		errs = append(errs, fmt.Errorf("--handover-grace-period must not be negative, got %s", o.HandoverGracePeriod))
	}
	if !o.LeaderElect {
		return errs
	}
	if o.LeaseDuration < time.Second || o.LeaseDuration%time.Second != 0 {
		errs = append(errs, fmt.Errorf("--leader-elect-lease-duration must be a whole number of seconds, got %s", o.LeaseDuration))
	}
	if o.RetryPeriod <= 0 {
		errs = append(errs, errors.New("--leader-elect-retry-period must be greater than zero"))
	}
	if o.RenewDeadline >= o.LeaseDuration {
		errs = append(errs, fmt.Errorf("--leader-elect-renew-deadline must be less than --leader-elect-lease-duration (%s), got %s: the active server must exit before a standby acquires the Lease", o.LeaseDuration, o.RenewDeadline))
	}
	if least := time.Duration(leaderelection.JitterFactor * float64(o.RetryPeriod)); o.RenewDeadline <= least {
		errs = append(errs, fmt.Errorf("--leader-elect-renew-deadline must be more than 1.2 times --leader-elect-retry-period (%s), got %s", least, o.RenewDeadline))
	}
	return errs
}

// replica returns this server's part in leader election; nil without it.
func (o *Replicas) replica(client kubernetes.Interface, recorder events.EventRecorder, namespace, service string) (*replica.Replica, error) {
	if !o.LeaderElect {
		return nil, nil
	}
	return replica.New(replica.Options{
		Client: client, Namespace: namespace, Lease: service, Pod: os.Getenv(PodVariable),
		LeaseDuration: o.LeaseDuration, RenewDeadline: o.RenewDeadline, RetryPeriod: o.RetryPeriod,
		Events: recorder,
	})
}
