// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metal-stack.io/infrastructure-apiserver/test/framework/build"
)

// Programs that `make controlplane` builds.
const (
	etcdProgram              = "etcd"
	apiServerProgram         = "kube-apiserver"
	controllerManagerProgram = "kube-controller-manager"
	kubectlProgram           = "kubectl"
)

// controllers are those of the kube-controller-manager that our objects meet,
// and those that other cluster components lean on. Those of workloads are left
// out: nothing would run them.
var controllers = []string{
	"clusterrole-aggregation-controller",
	"endpoints-controller", // for kube-apiservers up to v1.33, which look for Endpoints of an APIService
	"endpointslice-controller",
	"garbage-collector-controller",
	"namespace-controller",
	"resourcequota-controller",
	"root-ca-certificate-publisher-controller",
	"serviceaccount-controller",
	"serviceaccount-token-controller",
}

// etcdData is etcd's data directory, below the control plane's.
const etcdData = "etcd"

type ports struct {
	etcd, etcdPeer, apiServer int
}

// BinEnv is the environment variable that names the directory of the programs, relative
// to the repository or absolute: for control planes of other versions, which
// `make compat` builds.
const BinEnv = "CONTROLPLANE_BIN"

// binaries is where the programs are: by default where `make controlplane` puts
// them, bin/ of this repository.
func binaries() string {
	bin := os.Getenv(BinEnv)
	switch {
	case bin == "":
		return filepath.Join(build.Root(), "bin")
	case filepath.IsAbs(bin):
		return bin
	default:
		return filepath.Join(build.Root(), bin)
	}
}

// programs returns the directory if all programs are there.
func programs(bin string) (string, error) {
	var missing []string
	for _, program := range []string{etcdProgram, apiServerProgram, controllerManagerProgram, kubectlProgram} {
		if _, err := os.Stat(filepath.Join(bin, program)); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, program)
		} else if err != nil {
			return "", err
		}
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("%s: no %s; build it with: make controlplane (or, where %s says, make compat)", bin, strings.Join(missing, ", "), BinEnv)
	}
	return bin, nil
}

func choosePorts() (p ports, err error) {
	for _, port := range []*int{&p.etcd, &p.etcdPeer, &p.apiServer} {
		if *port, err = FreePort(); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (c *ControlPlane) startEtcd(ctx context.Context) error {
	client := c.EtcdURL()
	peer := fmt.Sprintf("http://127.0.0.1:%d", c.ports.etcdPeer)
	p, err := c.launch(&c.etcd, etcdProgram,
		"--data-dir="+filepath.Join(c.dir, etcdData),
		"--listen-client-urls="+client,
		"--advertise-client-urls="+client,
		"--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer,
		"--initial-cluster=default="+peer,
		// Data need not survive a power cut.
		"--unsafe-no-fsync=true",
	)
	if err != nil {
		return err
	}
	return p.ready(ctx, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, client+"/health", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("/health: %s", response.Status)
		}
		return nil
	})
}

func (c *ControlPlane) startAPIServer(ctx context.Context) error {
	at := func(name string) string { return filepath.Join(c.dir, name) }
	egress := fmt.Sprintf(`{"apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration", "egressSelections": [
		{"name": "cluster", "connection": {"proxyProtocol": "HTTPConnect", "transport": {"uds": {"udsName": %q}}}}]}`, at(socket))
	if err := write(c.dir, "egress.json", []byte(egress)); err != nil {
		return err
	}
	p, err := c.launch(&c.apiServer, apiServerProgram, append([]string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", c.ports.etcd),
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", c.ports.apiServer),
		"--tls-cert-file=" + at(servingFile+".crt"),
		"--tls-private-key-file=" + at(servingFile+".key"),
		"--client-ca-file=" + at(caFile),
		"--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + at(serviceAccountFile),
		"--service-account-signing-key-file=" + at(serviceAccountFile),
		"--service-cluster-ip-range=" + serviceRange,
		// No token is mounted where nothing is run.
		"--disable-admission-plugins=ServiceAccount",
		"--endpoint-reconciler-type=none",
		"--egress-selector-config-file=" + at("egress.json"),
		"--requestheader-client-ca-file=" + at(frontProxyCAFile),
		"--requestheader-allowed-names=" + frontProxyName,
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + at(frontProxyFile+".crt"),
		"--proxy-client-key-file=" + at(frontProxyFile+".key"),
	}, c.options.apiServerFlags...)...)
	if err != nil {
		return err
	}
	return p.ready(ctx, c.readyz)
}

// readyz asks the kube-apiserver whether it is ready.
func (c *ControlPlane) readyz(ctx context.Context) error {
	return c.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

func (c *ControlPlane) startControllerManager(context.Context) error {
	kubeconfig := c.Kubeconfig(c.User("system:kube-controller-manager"))
	_, err := c.launch(&c.controllerMgr, controllerManagerProgram,
		"--kubeconfig="+kubeconfig,
		"--controllers="+strings.Join(controllers, ","),
		"--use-service-account-credentials=true",
		"--service-account-private-key-file="+filepath.Join(c.dir, serviceAccountFile),
		"--root-ca-file="+filepath.Join(c.dir, caFile),
		"--leader-elect=false",
		"--secure-port=0",
	)
	return err
}

// settled waits for what the controllers make in every new cluster.
func (c *ControlPlane) settled(ctx context.Context) error {
	return c.controllerMgr.ready(ctx, func(ctx context.Context) error {
		if _, err := c.client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err
		}
		role, err := c.client.RbacV1().ClusterRoles().Get(ctx, "admin", metav1.GetOptions{})
		if err == nil && len(role.Rules) == 0 {
			err = errors.New("the ClusterRole admin is not aggregated yet")
		}
		return err
	})
}

// launch starts a program of ours in place of the one that ran before.
func (c *ControlPlane) launch(place **process, program string, flags ...string) (*process, error) {
	p, err := spawn(c.dir, filepath.Join(c.bin, program), flags...)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	*place = p
	return p, nil
}
