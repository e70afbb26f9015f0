package options

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/bolt"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/kubernetes"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

// The ledgers that there are.
const (
	LedgerKubernetes = "kubernetes"
	LedgerBolt       = "bolt"
	LedgerMemory     = "memory"
)

// NamespaceVariable is the environment variable that the server's own
// namespace is read from, if no flag names it.
const NamespaceVariable = "POD_NAMESPACE"

// namespaceFile is where Kubernetes writes a pod's namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Records says where records are kept, and whose metal is shown where.
type Records struct {
	Ledger string
	// Namespace is the server's own in its cluster.
	Namespace string
	DataDir   string
	Bind      []string
}

// NewRecords returns the defaults.
func NewRecords() *Records {
	return &Records{DataDir: "/var/lib/metalstack-apiserver"}
}

// AddFlags adds the flags.
func (o *Records) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Ledger, "ledger", o.Ledger, "Where records, which are what the metal-api has no word for, are kept: "+
		LedgerKubernetes+" (ConfigMaps in --namespace; the default in a cluster), "+LedgerBolt+" (a file in --data-dir; the default with --standalone), "+
		"or "+LedgerMemory+" (nowhere: for a trial).")
	fs.StringVar(&o.Namespace, "namespace", o.Namespace, "The server's own namespace in its cluster, where records are kept. It defaults to that of the pod, from "+NamespaceVariable+" or the service account.")
	fs.StringVar(&o.DataDir, "data-dir", o.DataDir, "Directory for the file of records and for generated certificates. Keep it, and keep it private.")
	fs.StringArrayVar(&o.Bind, "bind", o.Bind, "With --standalone, binds a namespace to a metal-stack project: team-a=<project id>. Can be given more than once. "+
		"A namespace named after a project's id is bound to it without. In a cluster, the label "+infrastructure.ProjectLabel+" on a Namespace does that, and nothing else: "+
		"a flag beside it would be a second opinion, which replicas might not share, and which nobody sees who looks at the Namespace.")
}

// Complete fills in the ledger and the namespace.
func (o *Records) Complete(standalone bool) {
	switch {
	case o.Ledger != "":
	case standalone:
		o.Ledger = LedgerBolt
	default:
		o.Ledger = LedgerKubernetes
	}
	if o.Namespace == "" && !standalone {
		o.Namespace = podNamespace()
	}
}

// podNamespace is the namespace that this process runs in, or "".
func podNamespace() string {
	if namespace := os.Getenv(NamespaceVariable); namespace != "" {
		return namespace
	}
	data, err := os.ReadFile(namespaceFile)
	if err != nil {
		return "" // not in a pod
	}
	return strings.TrimSpace(string(data))
}

// Validate returns what is wrong.
func (o *Records) Validate(standalone bool) []error {
	var errs []error
	switch o.Ledger {
	case LedgerBolt, LedgerMemory:
	case LedgerKubernetes:
		if standalone {
			errs = append(errs, fmt.Errorf("--ledger=%s needs a cluster, and there is none with --standalone", LedgerKubernetes))
		}
	default:
		errs = append(errs, fmt.Errorf("--ledger must be %s, %s or %s, and is %q", LedgerKubernetes, LedgerBolt, LedgerMemory, o.Ledger))
	}
	if problems := validation.IsDNS1123Label(o.Namespace); !standalone && len(problems) > 0 {
		errs = append(errs, fmt.Errorf("--namespace must name the server's own namespace, and is %q: %s", o.Namespace, strings.Join(problems, "; ")))
	}
	if o.DataDir == "" && (standalone || o.Ledger == LedgerBolt) {
		errs = append(errs, errors.New("--data-dir must name a directory"))
	}
	if _, err := tenancy.NewStatic(o.Bind); err != nil {
		errs = append(errs, fmt.Errorf("--bind: %w", err))
	}
	if !standalone && len(o.Bind) > 0 {
		errs = append(errs, fmt.Errorf("--bind goes with --standalone only: in a cluster, a namespace is bound by the label %s", infrastructure.ProjectLabel))
	}
	return errs
}

// Open opens the ledger. A server in a cluster names its cluster.
func (o *Records) Open(cluster *rest.Config) (ledger.Ledger, error) {
	l, err := o.open(cluster)
	if err != nil {
		return nil, err
	}
	return ledger.Instrument(l, o.Ledger), nil
}

func (o *Records) open(cluster *rest.Config) (ledger.Ledger, error) {
	switch o.Ledger {
	case LedgerKubernetes:
		return kubernetes.New(cluster, o.Namespace)
	case LedgerMemory:
		return memory.New(), nil
	}
	return bolt.Open(filepath.Join(o.DataDir, "records.db"), bolt.Options{})
}

// Binding answers which project a namespace is bound to, without a cluster.
type Binding struct {
	*tenancy.Static
}

// Binding returns the bindings that the flags list.
func (o *Records) Binding() (Binding, error) {
	static, err := tenancy.NewStatic(o.Bind)
	return Binding{static}, err
}

// Admit implements apiserver.Binding.
func (b Binding) Admit(_ context.Context, resource schema.GroupResource, namespace, name string) (done func(), err error) {
	if _, bound := b.Project(namespace); !bound {
		return nil, tenancy.NotBound(resource, namespace, name,
			fmt.Sprintf("start the server with --bind=%s=<project id>, or use a namespace named after the project's id", namespace))
	}
	return func() {}, nil
}

// firstNamespace is that of the first binding, or "".
func (o *Records) firstNamespace() string {
	if len(o.Bind) == 0 {
		return ""
	}
	namespace, _, _ := strings.Cut(o.Bind[0], "=")
	return namespace
}
