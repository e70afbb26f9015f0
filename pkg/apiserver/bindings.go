package apiserver

import (
	"k8s.io/apiserver/pkg/server"

	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

// manyNamespaces is from how many namespaces on everything is joined again,
// instead of each of them: each goes through all metal.
const manyNamespaces = 8

// keepBindings keeps the bindings of a server in a cluster, and shows in the
// view what they change.
func (s *Server) keepBindings() error {
	if s.extra.Namespaces == nil {
		return nil
	}
	return s.Generic.AddPostStartHook("start-namespace-bindings", func(hook server.PostStartHookContext) error {
		go s.extra.Namespaces.Run(hook, tenancy.Keeping{
			Ledger: s.ledger, Holds: s.backend.MayHaveRecords, Oldest: s.backend.OldestCreationTime, StandBy: s.extra.Replica != nil,
			HiddenChanged: s.backend.HiddenNamespacesChanged,
			Changed: func(namespaces, projects []string) {
				// It shows and hides what is discovered. What follows is for records:
				// the metal of an allocation under way is found by project.
				s.observer.Reconsider(projects...)
				if s.extra.BootstrapData != nil {
					s.extra.BootstrapData.Enqueue()
				}
				if len(namespaces) > manyNamespaces {
					s.backend.ReprojectAll()
					return
				}
				for _, namespace := range namespaces {
					s.backend.ReprojectNamespace(namespace)
				}
			},
		})
		return nil
	})
}
