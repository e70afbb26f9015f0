package options

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/kubernetes"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver"
)

const (
	// clientQPS and clientBurst limit the server's own requests a second to the
	// cluster. Records are written as fast as clients write.
	clientQPS, clientBurst = 200, 400
	// startLimit is how long each question may take that is asked of the cluster
	// before the server can start.
	startLimit = 30 * time.Second
	// reporter is who Events say that they come from.
	reporter = "metalstack-apiserver"
)

// healthPaths may be read by everybody: probes hold no credentials.
var healthPaths = []string{"/healthz", "/livez", "/readyz"}

func (o *Options) addClusterFlags(fs *pflag.FlagSet) {
	o.CoreAPI.AddFlags(fs)
	fs.Lookup("kubeconfig").Usage = "File that says how the cluster is reached. It is not needed within the cluster. " +
		"--authentication-kubeconfig and --authorization-kubeconfig default to it."
}

// completeCluster lets one kubeconfig do for all that is asked of the cluster.
func (o *Options) completeCluster() {
	path := o.CoreAPI.CoreAPIKubeconfigPath
	if o.Authentication.RemoteKubeConfigFile == "" {
		o.Authentication.RemoteKubeConfigFile = path
	}
	if o.Authorization.RemoteKubeConfigFile == "" {
		o.Authorization.RemoteKubeConfigFile = path
	}
}

// applyCluster lets the cluster decide who somebody is and what they may do.
func (o *Options) applyCluster(ctx context.Context, config *apiserver.Config) error {
	if err := o.CoreAPI.ApplyTo(config.Generic); err != nil {
		return fmt.Errorf("--kubeconfig: %w", err)
	}
	config.Generic.ClientConfig.QPS, config.Generic.ClientConfig.Burst = clientQPS, clientBurst
	client, err := kubernetes.NewForConfig(config.Generic.ClientConfig)
	if err != nil {
		return err
	}
	if err := o.SecureServing.MaybeDefaultWithSelfSignedCerts("localhost", nil, []net.IP{net.IPv4(127, 0, 0, 1)}); err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	if err := o.SecureServing.ApplyToConfig(&config.Generic.Config); err != nil {
		return err
	}
	if err := o.Authentication.ApplyTo(&config.Generic.Authentication, config.Generic.SecureServing, nil); err != nil {
		return err
	}
	config.Generic.Authentication.Authenticator = strangersAt(healthPaths, config.Generic.Authentication.Authenticator)
	if err := o.Authorization.ApplyTo(&config.Generic.Authorization); err != nil {
		return err
	}
	if config.Extra.ManagementCluster, err = managementCluster(ctx, client); err != nil {
		return err
	}
	if config.Extra.Events, err = recordEvents(ctx, client); err != nil {
		return err
	}
	return o.Features.ApplyTo(&config.Generic.Config, client, config.Generic.SharedInformerFactory)
}

// managementCluster is the id by which metal knows this cluster. A cluster has
// no id of its own; this namespace is as old as the cluster.
func managementCluster(ctx context.Context, client kubernetes.Interface) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	system, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("the uid of the namespace %s, by which metal knows this cluster: %w", metav1.NamespaceSystem, err)
	}
	return string(system.UID), nil
}

// recordEvents returns a recorder that works for as long as the process does:
// what happens during a stop is worth an Event, too.
func recordEvents(ctx context.Context, client kubernetes.Interface) (events.EventRecorder, error) {
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	if err := broadcaster.StartRecordingToSinkWithContext(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	return broadcaster.NewRecorder(clientscheme.Scheme, reporter), nil
}

// strangersAt tells those whom next does not know to identify themselves,
// except at paths. The generic server calls them anonymous and has them
// forbidden, which is no answer to a forged name.
func strangersAt(paths []string, next authenticator.Request) authenticator.Request {
	return authenticator.RequestFunc(func(req *http.Request) (*authenticator.Response, bool, error) {
		response, ok, err := next.AuthenticateRequest(req)
		if ok && response.User.GetName() == user.Anonymous && !slices.Contains(paths, req.URL.Path) {
			return nil, false, nil
		}
		return response, ok, err
	})
}
