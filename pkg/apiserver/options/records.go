// SPDX-License-Identifier: Apache-2.0

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

// The implementations of the ledger.
const (
	LedgerKubernetes = "kubernetes"
	LedgerBolt       = "bolt"
	LedgerMemory     = "memory"
)

// NamespaceVariable is the environment variable of the server's own namespace, if no
// flag sets it.
const NamespaceVariable = "POD_NAMESPACE"

// namespaceFile is where Kubernetes writes a pod's namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Records are the options of the ledger and of standalone bindings.
type Records struct {
	Ledger string
	// Namespace is the server's own in its cluster.
	Namespace       string
	DataDir         string
	ProjectBindings []string
}

// NewRecords returns the defaults.
func NewRecords() *Records {
	return &Records{DataDir: "/var/lib/metalstack-apiserver"}
}

// AddFlags adds the flags.
func (o *Records) AddFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.Ledger, "ledger", o.Ledger, "Storage of records, which hold the Kubernetes-only state of objects: "+
		LedgerKubernetes+" (ConfigMaps in --namespace; the default in a cluster), "+LedgerBolt+" (a file in --data-dir; the default with --standalone), "+
		"or "+LedgerMemory+" (not persistent; for trials).")
	fs.StringVar(&o.Namespace, "namespace", o.Namespace, "Namespace that the server runs in, and stores records in. If empty, it is read from the environment variable "+NamespaceVariable+" or from the mounted service account.")
	fs.StringVar(&o.DataDir, "data-dir", o.DataDir, "Directory for the records file and for generated certificates and keys. It must be persistent, and readable by the server only.")
	fs.StringArrayVar(&o.ProjectBindings, "project-binding", o.ProjectBindings, "Binding of a namespace to a metal-stack project, in the form NAMESPACE=PROJECT. Can be repeated. Requires --standalone. "+
		"A namespace whose name is a project's ID is bound to that project by default. In a cluster, namespaces are bound by the label "+infrastructure.ProjectLabel+" of the Namespace.")
}

// Complete sets the defaults of the ledger and the namespace.
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

// Validate returns all errors.
func (o *Records) Validate(standalone bool) []error {
	var errs []error
	switch o.Ledger {
	case LedgerBolt, LedgerMemory:
	case LedgerKubernetes:
		if standalone {
			errs = append(errs, fmt.Errorf("--ledger=%s requires a cluster: it cannot be combined with --standalone", LedgerKubernetes))
		}
	default:
		errs = append(errs, fmt.Errorf("--ledger must be %s, %s or %s, got %q", LedgerKubernetes, LedgerBolt, LedgerMemory, o.Ledger))
	}
	if problems := validation.IsDNS1123Label(o.Namespace); !standalone && len(problems) > 0 {
		errs = append(errs, fmt.Errorf("--namespace must be the name of the namespace that the server runs in, got %q: %s", o.Namespace, strings.Join(problems, "; ")))
	}
	if o.DataDir == "" && (standalone || o.Ledger == LedgerBolt) {
		errs = append(errs, errors.New("--data-dir must be specified"))
	}
	if _, err := tenancy.NewStatic(o.ProjectBindings); err != nil {
		errs = append(errs, fmt.Errorf("--project-binding: %w", err))
	}
	if !standalone && len(o.ProjectBindings) > 0 {
		errs = append(errs, fmt.Errorf("--project-binding requires --standalone: in a cluster, a namespace is bound by its label %s", infrastructure.ProjectLabel))
	}
	return errs
}

// Open opens the ledger; cluster is nil without a cluster.
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

// StaticBindings are the bindings of namespaces to projects without a cluster.
type StaticBindings struct {
	*tenancy.Static
}

// Bindings returns the bindings that the flags list.
func (o *Records) Bindings() (StaticBindings, error) {
	static, err := tenancy.NewStatic(o.ProjectBindings)
	return StaticBindings{static}, err
}

// BeginCreate implements apiserver.Bindings.
func (b StaticBindings) BeginCreate(_ context.Context, resource schema.GroupResource, namespace, name string) (done func(), err error) {
	if _, bound := b.Project(namespace); !bound {
		return nil, tenancy.NotBound(resource, namespace, name,
			fmt.Sprintf("start the server with --project-binding=%s=<project id>, or use a namespace named after the project's id", namespace))
	}
	return func() {}, nil
}

// firstNamespace is that of the first binding, or "".
func (o *Records) firstNamespace() string {
	if len(o.ProjectBindings) == 0 {
		return ""
	}
	namespace, _, _ := strings.Cut(o.ProjectBindings[0], "=")
	return namespace
}
