// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
)

// completionTimeout is how long a shell waits for names.
const completionTimeout = 3 * time.Second

// completeNames completes NAME or TYPE/NAME. A shell shows nothing of an error.
func (s *session) completeNames(ctx context.Context, args []string, typed string, kind fleet.Kind) ([]string, cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoFileComp
	if len(args) > 0 {
		return nil, directive
	}
	prefix := ""
	if typ, _, found := strings.Cut(typed, "/"); found {
		ref, err := fleet.ParseReference(typ+"/x", kind)
		if err != nil {
			return nil, directive
		}
		kind, prefix = ref.Kind, typ+"/"
	}
	client, err := s.client()
	if err != nil {
		return nil, directive
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	all, err := client.List(ctx, fleet.Query{Kinds: []fleet.Kind{kind}})
	if err != nil {
		return nil, directive
	}
	var names []string
	for _, o := range all {
		if strings.HasPrefix(prefix+o.Name, typed) {
			names = append(names, prefix+o.Name)
		}
	}
	return names, directive
}

// completeGlobalFlags completes the namespace and the context.
func (s *session) completeGlobalFlags(cmd *cobra.Command) {
	register := func(flag string, values func(ctx context.Context) ([]string, error)) {
		err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
			defer cancel()
			all, err := values(ctx)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var matching []string
			for _, value := range all {
				if strings.HasPrefix(value, typed) {
					matching = append(matching, value)
				}
			}
			return matching, cobra.ShellCompDirectiveNoFileComp
		})
		if err != nil {
			panic(err) // The flag does not exist.
		}
	}
	register("namespace", func(ctx context.Context) ([]string, error) {
		client, err := s.client()
		if err != nil {
			return nil, err
		}
		return client.Namespaces(ctx)
	})
	register("context", func(context.Context) ([]string, error) {
		config, err := s.flags.ToRawKubeConfigLoader().RawConfig()
		if err != nil {
			return nil, err
		}
		var names []string
		for name := range config.Contexts {
			names = append(names, name)
		}
		return names, nil
	})
}
