// SPDX-License-Identifier: Apache-2.0

package options

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/admission"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/admissionpolicies"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/managerroles"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/owners"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/quota"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/registration"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/servingcert"
	"metal-stack.io/infrastructure-apiserver/pkg/metalapi"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

const (
	// clientQPS and clientBurst limit the server's own requests a second to the
	// cluster. Records are written as fast as clients write.
	clientQPS, clientBurst = 200, 400
	// leaseQPS and leaseBurst limit the requests a second for the Lease and the
	// label, which are a few; leaseDialLimit is how long a connection for them may
	// take to be made, less than half of a renew deadline.
	leaseQPS, leaseBurst = 20, 40
	leaseDialTimeout     = 3 * time.Second
	// startTimeout is how long each request to the cluster may take before the server
	// starts.
	startTimeout = 30 * time.Second
	// maxReportingInstance is the most bytes of the name of this server in an Event.
	maxReportingInstance = 128
)

// Cluster are the options of a server in a cluster: its Service, its registration, and
// the service account of the controller manager.
type Cluster struct {
	RegisterAPI  bool
	ServiceName  string
	ServicePort  int32
	CABundleFile string
	// ControllerManagerAccount is the controller manager's ServiceAccount in the
	// server's namespace; empty for none.
	ControllerManagerAccount string
}

// NewCluster returns the defaults, which are those of artifacts/deploy.
func NewCluster() *Cluster {
	return &Cluster{RegisterAPI: true, ServiceName: "metalstack-apiserver", ServicePort: 443, ControllerManagerAccount: "metalstack-controller-manager"}
}

// AddFlags adds the flags.
func (o *Cluster) AddFlags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.RegisterAPI, "register-api", o.RegisterAPI, "Register the served API in the cluster: create and update its APIServices, and the marker CustomResourceDefinitions from which Cluster API reads the version to use.")
	fs.StringVar(&o.ServiceName, "service-name", o.ServiceName, "Name of the Service in --namespace through which the kube-apiserver reaches this server.")
	fs.Int32Var(&o.ServicePort, "service-port", o.ServicePort, "Port of the Service that --service-name names.")
	fs.StringVar(&o.ControllerManagerAccount, "controller-manager-service-account", o.ControllerManagerAccount, "Name of the controller manager's ServiceAccount in --namespace. In every namespace that is bound to a project, the server creates RoleBindings of it to the ClusterRoles "+managerroles.BootstrapData.Name+", which allows reading bootstrap data, and "+managerroles.MetalAPIAccess.Name+", which allows giving clusters access to their metal-api; this one only while the ValidatingAdmissionPolicy "+admissionpolicies.MetalAPIAccess+" is enforced. If empty, no RoleBindings are created.")
	fs.StringVar(&o.CABundleFile, "ca-bundle-file", o.CABundleFile, "Path to a file with the PEM-encoded CA certificates that --tls-cert-file is signed by. It is reloaded when it changes. "+
		"If --tls-cert-file is not set, the server generates its serving certificate and CA, and stores both in the Secret "+servingcert.SecretName+" in --namespace.")
}

// Validate returns all errors.
func (o *Cluster) Validate(certFile string) []error {
	var errs []error
	if problems := validation.IsDNS1035Label(o.ServiceName); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("--service-name must be a valid Service name, got %q: %s", o.ServiceName, strings.Join(problems, "; ")))
	}
	if o.ServicePort < 1 || o.ServicePort > 65535 {
		errs = append(errs, fmt.Errorf("--service-port must be between 1 and 65535, inclusive, got %d", o.ServicePort))
	}
	if problems := validation.IsDNS1123Subdomain(o.ControllerManagerAccount); o.ControllerManagerAccount != "" && len(problems) > 0 {
		errs = append(errs, fmt.Errorf("--controller-manager-service-account must be a valid ServiceAccount name, got %q: %s", o.ControllerManagerAccount, strings.Join(problems, "; ")))
	}
	switch {
	case certFile == "" && o.CABundleFile != "":
		errs = append(errs, errors.New("--ca-bundle-file requires --tls-cert-file: the generated serving certificate is signed by a generated CA"))
	case certFile != "" && o.CABundleFile == "" && o.RegisterAPI:
		errs = append(errs, errors.New("--tls-cert-file requires --ca-bundle-file, with which the kube-apiserver verifies it, unless --register-api=false is set"))
	}
	return errs
}

// hosts are the names by which clients in the cluster connect to the server.
func (o *Cluster) hosts(namespace string) []string {
	service := o.ServiceName + "." + namespace
	return []string{service + ".svc", service, service + ".svc.cluster.local", "localhost", "127.0.0.1"}
}

func (o *Options) addClusterFlags(fs *pflag.FlagSet) {
	o.CoreAPI.AddFlags(fs)
	o.Cluster.AddFlags(fs)
	o.Replicas.AddFlags(fs)
	fs.Lookup("kubeconfig").Usage = "Path to a kubeconfig file for the cluster. If empty, the in-cluster configuration is used. " +
		"It is also the default of --authentication-kubeconfig and --authorization-kubeconfig."
}

// completeCluster uses one kubeconfig for all requests to the cluster.
func (o *Options) completeCluster() {
	path := o.CoreAPI.CoreAPIKubeconfigPath
	if o.Authentication.RemoteKubeConfigFile == "" {
		o.Authentication.RemoteKubeConfigFile = path
	}
	if o.Authorization.RemoteKubeConfigFile == "" {
		o.Authorization.RemoteKubeConfigFile = path
	}
}

// applyCluster configures a server in a cluster, which delegates authentication and
// authorization to the kube-apiserver.
func (o *Options) applyCluster(ctx context.Context, config *apiserver.Config) error {
	if err := o.CoreAPI.ApplyTo(config.Generic); err != nil {
		return fmt.Errorf("--kubeconfig: %w", err)
	}
	config.Generic.ClientConfig.QPS, config.Generic.ClientConfig.Burst = clientQPS, clientBurst
	client, err := kubernetes.NewForConfig(config.Generic.ClientConfig)
	if err != nil {
		return err
	}
	bundle, err := o.applyServingCertificate(ctx, client)
	if err != nil {
		return err
	}
	if err := o.applyServing(&config.Generic.Config, time.Now); err != nil {
		return err
	}
	if err := o.Authentication.ApplyTo(&config.Generic.Authentication, config.Generic.SecureServing, nil); err != nil {
		return err
	}
	config.Generic.Authentication.Authenticator = rejectAnonymous(withProxiedUsers(config.Generic.Authentication.Authenticator, config.Generic.Authentication.RequestHeaderConfig))
	if err := o.Authorization.ApplyTo(&config.Generic.Authorization); err != nil {
		return err
	}
	if config.Extra.ManagementCluster, err = managementCluster(ctx, client); err != nil {
		return err
	}
	if config.Extra.Events, err = newEventRecorder(ctx, client); err != nil {
		return err
	}
	config.Extra.OperationEvents, config.Extra.ReportingInstance = client.EventsV1(), reportingInstance()
	if config.Extra.Quotas, err = quota.New(config.Generic.ClientConfig, config.Generic.SharedInformerFactory, config.Generic.DrainedNotify()); err != nil {
		return err
	}
	config.Extra.Admission, err = admission.New(admission.Options{
		Config: config.Generic.ClientConfig, Authorizer: config.Generic.Authorization.Authorizer, Drained: config.Generic.DrainedNotify(),
		Reads: metalapi.Reads,
	})
	if err != nil {
		return err
	}
	if config.Extra.Owners, err = owners.New(config.Generic.ClientConfig); err != nil {
		return err
	}
	namespaces, err := metadata.NewForConfig(config.Generic.ClientConfig)
	if err != nil {
		return err
	}
	config.Extra.Namespaces = tenancy.NewNamespaces(namespaces, config.Extra.Events, clock.RealClock{})
	config.Extra.Bindings = config.Extra.Namespaces
	config.Extra.AdmissionPolicies = admissionpolicies.New(client, clock.RealClock{})
	if o.Cluster.ControllerManagerAccount != "" {
		config.Extra.ManagerRoles = o.managerRoles(config, client)
	}
	leases, err := kubernetes.NewForConfig(leaseConfig(config.Generic.ClientConfig))
	if err != nil {
		return err
	}
	if config.Extra.Replica, err = o.Replicas.replica(leases, config.Extra.Events, o.Records.Namespace, o.Cluster.ServiceName); err != nil {
		return err
	}
	config.Extra.HandoverGracePeriod = o.Replicas.HandoverGracePeriod
	if o.Cluster.RegisterAPI {
		config.Extra.Registrar, err = registration.New(registration.Options{
			Config:    config.Generic.ClientConfig,
			Namespace: o.Records.Namespace, Service: o.Cluster.ServiceName, Port: o.Cluster.ServicePort,
			Bundle: bundle, Events: config.Extra.Events, Firewalls: o.ServeFirewalls,
		})
		if err != nil {
			return err
		}
	}
	return o.Features.ApplyTo(&config.Generic.Config, client, config.Generic.SharedInformerFactory)
}

// managerRoles grant the controller manager its roles; the second one only while the policy is
// enforced that restricts what it writes by that role.
func (o *Options) managerRoles(config *apiserver.Config, client kubernetes.Interface) []*managerroles.Controller {
	options := managerroles.Options{
		Role: managerroles.BootstrapData, Client: client, Namespace: o.Records.Namespace, Account: o.Cluster.ControllerManagerAccount,
		Bound: config.Extra.Namespaces.Bound, Events: config.Extra.Events,
	}
	bootstrapData := managerroles.New(options)
	policies := config.Extra.AdmissionPolicies
	options.Role = managerroles.MetalAPIAccess
	options.Grantable = func() (bool, error) { return policies.Enforced(admissionpolicies.MetalAPIAccess) }
	metalAPIAccess := managerroles.New(options)
	policies.OnChange(metalAPIAccess.Enqueue)
	return []*managerroles.Controller{bootstrapData, metalAPIAccess}
}

// applyServingCertificate configures the serving certificate, from a file or the
// rotator, and returns the CA bundle for clients; nil if it is not known.
func (o *Options) applyServingCertificate(ctx context.Context, client kubernetes.Interface) (registration.Bundle, error) {
	if o.SecureServing.ServerCert.CertKey.CertFile != "" {
		if o.Cluster.CABundleFile == "" {
			return nil, nil
		}
		bundle, err := dynamiccertificates.NewDynamicCAContentFromFile("ca-bundle", o.Cluster.CABundleFile)
		if err != nil {
			return nil, fmt.Errorf("--ca-bundle-file: %w", err)
		}
		go bundle.Run(ctx, 1)
		return bundle, nil
	}
	rotator := servingcert.New(client.CoreV1().Secrets(o.Records.Namespace), clock.RealClock{}, o.Cluster.hosts(o.Records.Namespace)...)
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := rotator.RunOnce(ctx); err != nil {
		return nil, err
	}
	o.SecureServing.ServerCert.GeneratedCert = rotator
	return rotator, nil
}

// leaseConfig returns the configuration of the clients for the Lease and the Pods'
// labels. Their requests share neither the rate limit nor the connection of others,
// however many reviews there are: configurations with a dialer of their own share no
// transport.
func leaseConfig(shared *rest.Config) *rest.Config {
	own := rest.CopyConfig(shared)
	own.QPS, own.Burst = leaseQPS, leaseBurst
	own.Dial = (&net.Dialer{Timeout: leaseDialTimeout, KeepAlive: 30 * time.Second}).DialContext
	return own
}

// managementCluster returns the ID of this management cluster in identities. A cluster
// has no ID of its own; the uid of kube-system is as old as the cluster.
func managementCluster(ctx context.Context, client kubernetes.Interface) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	system, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("failed to get namespace %q, whose uid identifies this management cluster: %w", metav1.NamespaceSystem, err)
	}
	return string(system.UID), nil
}

// newEventRecorder returns a recorder that works as long as the process runs, so that
// Events are recorded during a stop, too.
func newEventRecorder(ctx context.Context, client kubernetes.Interface) (events.EventRecorder, error) {
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	if err := broadcaster.StartRecordingToSinkWithContext(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	return broadcaster.NewRecorder(clientscheme.Scheme, apiserver.EventSource), nil
}

// reportingInstance is this server in Events that it stores itself, as recorders of client-go
// name it.
func reportingInstance() string {
	hostname, err := os.Hostname()
	if err != nil {
		return apiserver.EventSource
	}
	return oneline.Sanitize(apiserver.EventSource+"-"+hostname, maxReportingInstance)
}
