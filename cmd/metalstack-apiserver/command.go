// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/cli/globalflag"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/component-base/logs/json/register"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/options"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
	"metal-stack.io/infrastructure-apiserver/pkg/version"
)

const long = `metalstack-apiserver serves MetalStackCluster, MetalStackMachine and
MetalStackFirewall in the API group infrastructure.cluster.x-k8s.io. The status of
these objects is read from the metal-api when a client requests it; the state that
exists in Kubernetes only is stored in records.

To try it without a cluster, with a metal-api (or the metal-api-simulator) at
http://127.0.0.1:8080:

  METAL_API_HMAC=<key> metalstack-apiserver --standalone --data-dir=data \
    --metal-api-url=http://127.0.0.1:8080 --project-binding=team-a=<project id>
  kubectl --kubeconfig=data/kubeconfig get metalstackmachines

In a cluster, it is an aggregated API server: the cluster's kube-apiserver proxies
requests to it, and authenticates and authorizes users.

/livez fails if the metal-api is not polled any more, whether or not it answers;
/readyz fails until the initial sync with the metal-api is complete.`

// Feature gates of logging are set by --feature-gates, along with all others.
func init() {
	utilruntime.Must(logsapi.AddFeatureGates(utilfeature.DefaultMutableFeatureGate))
}

// newCommand returns the command; ctx ends on a termination signal.
func newCommand(ctx context.Context) *cobra.Command {
	o := options.New()
	cmd := &cobra.Command{
		Use:          "metalstack-apiserver",
		Short:        "Serve metal-stack's machines and clusters as Kubernetes objects",
		Long:         long,
		SilenceUsage: true,
		Args:         cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := logsapi.ValidateAndApply(o.Logs, utilfeature.DefaultFeatureGate); err != nil {
				return err
			}
			klog.SetLogFilter(oneline.LogFilter{})
			cliflag.PrintFlags(cmd.Flags())
			return run(ctx, o)
		},
	}
	sets := o.Flags()
	version.AddFlag(cmd, sets.FlagSet("global"))
	globalflag.AddGlobalFlags(sets.FlagSet("global"), cmd.Name(), logs.SkipLoggingConfigurationFlags())
	for _, set := range sets.FlagSets {
		cmd.Flags().AddFlagSet(set)
	}
	columns, _, _ := term.GetSize(int(os.Stdout.Fd()))
	cliflag.SetUsageAndHelpFunc(cmd, sets, columns)
	return cmd
}

func run(ctx context.Context, o *options.Options) error {
	if err := o.Complete(); err != nil {
		return err
	}
	if err := o.Validate(); err != nil {
		return err
	}
	config, err := o.Config(ctx)
	if err != nil {
		return err
	}
	completed, err := config.Complete()
	if err != nil {
		return errors.Join(err, config.Close())
	}
	server, err := completed.New(ctx)
	if err != nil {
		return err
	}
	klog.FromContext(ctx).Info("Serving", "address", o.SecureServing.Listener.Addr().String())
	return server.Run(ctx)
}
