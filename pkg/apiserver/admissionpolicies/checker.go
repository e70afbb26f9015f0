// SPDX-License-Identifier: Apache-2.0

// Package admissionpolicies checks whether the ValidatingAdmissionPolicies are
// enforced that restrict the programs' service accounts where RBAC cannot. They are
// part of the installation (artifacts/deploy/admission.yaml), but Kubernetes
// before 1.30 does not have the kind, and administrators can delete them. The
// server works without them, so that only a check shows their absence. This
// package reads policies; it must never write one.
package admissionpolicies

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/component-base/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

const (
	// interval is how often the policies are read, jitter how much of it is added
	// at random.
	interval, jitter = 5 * time.Minute, 0.1
	// missingInterval is how often they are read while one is not enforced: what depends on
	// it is missing until then.
	missingInterval = 15 * time.Second
	// callTimeout is how long a request to the cluster may take.
	callTimeout = 10 * time.Second
	// logAgain is how often the same result is logged.
	logAgain = 30 * time.Minute
)

// MetalAPIAccess is the policy without which the role of that name must not be granted.
const MetalAPIAccess = "metalstack-controller-manager-metalapi-access"

// names are those of the policies, each of which has a binding of its name.
var names = []string{
	"metalstack-apiserver-configmaps", "metalstack-apiserver-pods",
	"metalstack-apiserver-rolebindings", "metalstack-apiserver-secrets",
	MetalAPIAccess,
}

// Checker checks the policies.
type Checker struct {
	client kubernetes.Interface
	clock  clock.PassiveClock
	// logged is what was logged last, "" if all policies are enforced, and when.
	logged   string
	loggedAt time.Time

	mu sync.Mutex
	// problems are those of the policies that are not enforced; nil before the first check.
	problems map[string]string
	// changed are called when problems have changed.
	changed []func()
}

// New returns a checker, which does nothing until it is run.
func New(client kubernetes.Interface, clock clock.PassiveClock) *Checker {
	registerOnce.Do(func() { legacyregistry.MustRegister(notEnforced) })
	return &Checker{client: client, clock: clock}
}

// OnChange has a function called when another result is found. It must be called before Run.
func (c *Checker) OnChange(changed func()) { c.changed = append(c.changed, changed) }

// Enforced returns an error if a policy was not enforced when it was checked last; known is
// false before the first check.
func (c *Checker) Enforced(name string) (known bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.problems == nil {
		return false, nil
	}
	if problem := c.problems[name]; problem != "" {
		return true, fmt.Errorf("the ValidatingAdmissionPolicy %s is not enforced (%s): apply artifacts/deploy in a cluster of Kubernetes 1.30 or later", name, problem)
	}
	return true, nil
}

// Run checks the policies at once and then every five minutes, and more often while one
// is not enforced, until ctx ends. It logs which ones are not enforced, and sets the
// metric. Only one server should.
func (c *Checker) Run(ctx context.Context) {
	defer func() {
		c.logged = ""
		c.setProblems(nil)
		notEnforced.Set(0)
	}()
	for ctx.Err() == nil {
		again := interval
		if !c.check(ctx) {
			again = missingInterval
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait.Jitter(again, jitter)):
		}
	}
}

// setProblems notes the result of a check.
func (c *Checker) setProblems(problems map[string]string) {
	c.mu.Lock()
	same := c.problems != nil && maps.Equal(c.problems, problems)
	c.problems = problems
	c.mu.Unlock()
	if same {
		return
	}
	for _, changed := range c.changed {
		changed()
	}
}

// check returns whether all policies are enforced, for all that is known.
func (c *Checker) check(ctx context.Context) bool {
	var problems []string
	found := map[string]string{}
	for _, name := range names {
		problem, err := c.problem(ctx, name)
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			// What the last check found stays in the metric.
			klog.FromContext(ctx).Error(err, "Failed to check whether a ValidatingAdmissionPolicy is enforced: retrying", "name", name, "retryAfter", missingInterval.String())
			return false
		}
		if problem != "" {
			found[name] = problem
			problems = append(problems, name+": "+problem)
		}
	}
	notEnforced.Set(float64(len(problems)))
	c.log(ctx, strings.Join(problems, "; "))
	c.setProblems(found)
	return len(problems) == 0
}

// problem returns why a policy is not enforced, "" if it is, or an error if that
// cannot be determined now. A right that is missing is a problem, too: until it
// is granted, the absence of the policy would remain unnoticed.
func (c *Checker) problem(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	api := c.client.AdmissionregistrationV1()
	if _, err := api.ValidatingAdmissionPolicies().Get(ctx, name, metav1.GetOptions{}); err != nil {
		return unreadable("ValidatingAdmissionPolicy", err)
	}
	binding, err := api.ValidatingAdmissionPolicyBindings().Get(ctx, name, metav1.GetOptions{})
	switch {
	case err != nil:
		return unreadable("ValidatingAdmissionPolicyBinding", err)
	case binding.Spec.PolicyName != name:
		return fmt.Sprintf("the ValidatingAdmissionPolicyBinding has policyName %q", binding.Spec.PolicyName), nil
	case !slices.Contains(binding.Spec.ValidationActions, admissionregistrationv1.Deny):
		return fmt.Sprintf("the ValidatingAdmissionPolicyBinding has validationActions %v, without Deny", binding.Spec.ValidationActions), nil
	}
	return "", nil
}

func unreadable(kind string, err error) (string, error) {
	switch {
	case apierrors.IsNotFound(err):
		return kind + " not found", nil
	case apierrors.IsForbidden(err):
		return fmt.Sprintf("%s cannot be read: %v", kind, err), nil
	}
	return "", err
}

// log logs a result that has changed, and one that has not every now and then.
func (c *Checker) log(ctx context.Context, problems string) {
	now := c.clock.Now()
	switch {
	case problems == "" && c.logged == "":
		return
	case problems == "":
		klog.FromContext(ctx).Info("All ValidatingAdmissionPolicies that restrict the service accounts of this server and of the controller manager are enforced again")
	case problems == c.logged && now.Sub(c.loggedAt) < logAgain:
		return
	default:
		klog.FromContext(ctx).Error(nil, "ValidatingAdmissionPolicies that restrict the service accounts of this server and of the controller manager are not enforced: apply artifacts/deploy in a cluster of Kubernetes 1.30 or later",
			"problems", problems)
	}
	c.logged, c.loggedAt = problems, now
}

var (
	notEnforced = metrics.NewGauge(&metrics.GaugeOpts{
		Namespace: "metalstack", Subsystem: "admission_policies", Name: "not_enforced",
		Help:           "ValidatingAdmissionPolicies that restrict the service accounts of the server and of the controller manager and are missing, not bound with Deny, or not readable.",
		StabilityLevel: metrics.ALPHA,
	})

	registerOnce sync.Once
)
