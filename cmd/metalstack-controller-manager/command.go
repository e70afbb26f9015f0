// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"
	"k8s.io/component-base/logs"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"

	"metal-stack.io/infrastructure-apiserver/pkg/controller"
	"metal-stack.io/infrastructure-apiserver/pkg/controller/options"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
	"metal-stack.io/infrastructure-apiserver/pkg/version"
)

func newCommand() *cobra.Command {
	o := options.New()
	command := &cobra.Command{
		Use:   "metalstack-controller-manager",
		Short: "Allocate and release metal for MetalStackClusters, -Machines and -Firewalls",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			logs.InitLogs()
			if err := logsapi.ValidateAndApply(o.Logs, nil); err != nil {
				return err
			}
			klog.SetLogFilter(oneline.LogFilter{})
			return run(o)
		},
		SilenceUsage: true,
	}
	o.AddFlags(command.Flags())
	version.AddFlag(command, command.Flags())
	return command
}

func run(o *options.Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	ctrl.SetLogger(klog.Background())
	config, err := o.ClientConfig()
	if err != nil {
		return err
	}
	managerOptions, err := o.ManagerOptions()
	if err != nil {
		return err
	}
	controllerOptions, err := o.ControllerOptions(config)
	if err != nil {
		return err
	}
	mgr, err := ctrl.NewManager(config, managerOptions)
	if err != nil {
		return err
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return err
	}
	if err := controller.AddWhenServed(mgr, controllerOptions); err != nil {
		return err
	}
	return mgr.Start(ctrl.SetupSignalHandler())
}
