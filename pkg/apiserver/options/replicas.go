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

// PodVariable is the environment variable that the name of the server's own Pod
// is read from.
const PodVariable = "POD_NAME"

// Replicas says how several servers agree on which is the active one.
type Replicas struct {
	LeaderElect   bool
	LeaseDuration time.Duration
	RenewDeadline time.Duration
	RetryPeriod   time.Duration
	HandOverGrace time.Duration
}

// NewReplicas returns the defaults, which are those of Kubernetes' own programs.
func NewReplicas() *Replicas {
	return &Replicas{
		LeaderElect: true, LeaseDuration: 15 * time.Second, RenewDeadline: 10 * time.Second, RetryPeriod: 2 * time.Second,
		HandOverGrace: 5 * time.Second,
	}
}

// AddFlags adds the flags.
func (o *Replicas) AddFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.LeaderElect, "leader-elect", o.LeaderElect, "Answer and write only while holding the Lease in --namespace that is named as the Service, and stand by otherwise. "+
		"Without it there must be one server at a time.")
	fs.DurationVar(&o.LeaseDuration, "leader-elect-lease-duration", o.LeaseDuration, "How long a server that stands by waits, after the active one last renewed the Lease, before it takes over. A whole number of seconds.")
	fs.DurationVar(&o.RenewDeadline, "leader-elect-renew-deadline", o.RenewDeadline, "How long the active server goes on without being able to renew the Lease. Then it ends, to be started again.")
	fs.DurationVar(&o.RetryPeriod, "leader-elect-retry-period", o.RetryPeriod, "How often the Lease is renewed.")
	fs.DurationVar(&o.HandOverGrace, "hand-over-grace", o.HandOverGrace, "How long a server that has handed over still sends requests to its successor, by 503 and Retry-After: longer than it takes until the cluster leads all new connections there.")
}

// Validate returns what is wrong.
func (o *Replicas) Validate() []error {
	var errs []error
	if o.HandOverGrace < 0 {
		errs = append(errs, fmt.Errorf("--hand-over-grace must not be negative, and is %s", o.HandOverGrace))
	}
	if !o.LeaderElect {
		return errs
	}
	if o.LeaseDuration < time.Second || o.LeaseDuration%time.Second != 0 {
		errs = append(errs, fmt.Errorf("--leader-elect-lease-duration must be a whole number of seconds, and is %s", o.LeaseDuration))
	}
	if o.RetryPeriod <= 0 {
		errs = append(errs, errors.New("--leader-elect-retry-period must be greater than zero"))
	}
	if o.RenewDeadline >= o.LeaseDuration {
		errs = append(errs, fmt.Errorf("--leader-elect-renew-deadline must be less than --leader-elect-lease-duration, which is %s, so that the active server has ended before another begins; it is %s", o.LeaseDuration, o.RenewDeadline))
	}
	if least := time.Duration(leaderelection.JitterFactor * float64(o.RetryPeriod)); o.RenewDeadline <= least {
		errs = append(errs, fmt.Errorf("--leader-elect-renew-deadline must be more than --leader-elect-retry-period and a fifth of it, %s, and is %s", least, o.RenewDeadline))
	}
	return errs
}

// replica is this server among others; nil if there are none.
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
