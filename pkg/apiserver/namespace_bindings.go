// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/klog/v2"

	"metal-stack.io/infrastructure-apiserver/pkg/storage"
	"metal-stack.io/infrastructure-apiserver/pkg/tenancy"
)

// rejoinAllThreshold is the number of changed namespaces above which all objects are
// reprojected at once: each single namespace goes through all metal.
const rejoinAllThreshold = 8

// completeInterval is how often records that lack their Namespace are completed.
const completeInterval = time.Minute

// addNamespaceBindingsHook runs the bindings of a server in a cluster, and updates the
// view when they change.
func (s *Server) addNamespaceBindingsHook() error {
	if s.extra.Namespaces == nil {
		return nil
	}
	return s.Generic.AddPostStartHook("start-namespace-bindings", func(hook server.PostStartHookContext) error {
		go wait.UntilWithContext(hook, s.completeRecords, completeInterval)
		go s.extra.Namespaces.Run(hook, tenancy.Config{
			Ledger: s.ledger, CheckFormat: s.records.Check, HasRecords: s.backend.MayHaveRecords, OldestRecord: s.backend.OldestCreationTime, Origins: s.origins, GetNamespace: s.extra.Owners.Namespace, Standby: s.extra.Replica != nil,
			OnHiddenChange: s.backend.HiddenNamespacesChanged,
			OnChange: func(namespaces, projects []string) {
				// It shows and hides what is discovered. What follows is for records:
				// the metal of an allocation under way is found by project.
				s.observer.RelevanceChanged(projects...)
				s.refresher.BindingsChanged(hook, namespaces)
				for _, role := range s.extra.ManagerRoles {
					role.Enqueue()
				}
				if len(namespaces) > rejoinAllThreshold {
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

// origins is what records say of the Namespaces that they are of.
func (s *Server) origins() map[string][]tenancy.Origin {
	origins := map[string][]tenancy.Origin{}
	for namespace, all := range s.backend.Origins() {
		for _, origin := range all {
			origins[namespace] = append(origins[namespace], tenancy.Origin(origin))
		}
	}
	return origins
}

// origin is what the records that are made in a namespace say of it, and since
// when there is that Namespace.
func (s *Server) origin(namespace string) (storage.Origin, time.Time) {
	origin, since := s.extra.Namespaces.Origin(namespace)
	return storage.Origin(origin), since
}

// completeRecords makes records of older servers say of which Namespace they are.
func (s *Server) completeRecords(ctx context.Context) {
	if err := s.backend.CompleteOrigins(ctx); err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "Failed to record the Namespaces of older records: retrying", "retryAfter", completeInterval.String())
	}
}
