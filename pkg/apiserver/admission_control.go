// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/server"

	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/standalone"
)

// admissionControl returns what admits requests: in a cluster its policies and webhooks, and
// then its quotas; standalone what replaces the garbage collector; nil for none.
func (c *ExtraConfig) admissionControl() (admission.Interface, error) {
	switch {
	case c.Standalone != nil:
		return standalone.Deletions{}, nil
	case c.Admission != nil && c.Quotas != nil:
		return c.Admission.Chain(c.Quotas)
	case c.Admission != nil:
		return c.Admission.Chain(nil)
	case c.Quotas != nil:
		return c.Quotas, nil
	}
	return nil, nil
}

// addAdmission has policies and webhooks read, by standbys, too: one that becomes active
// admits requests at once.
func (s *Server) addAdmission() error {
	if s.extra.Admission == nil {
		return nil
	}
	if err := s.Generic.AddReadyzChecks(s.extra.Admission.ReadyzCheck()); err != nil {
		return err
	}
	return s.Generic.AddPostStartHook("start-admission", func(hook server.PostStartHookContext) error {
		go s.extra.Admission.Run(hook)
		return nil
	})
}
