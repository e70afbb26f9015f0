// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/allocation"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/metal"
	"metal-stack.io/infrastructure-apiserver/pkg/oneline"
)

const reinstallKind = "MachineReinstall"

var (
	imagePath = field.NewPath("spec", "image")
	forcePath = field.NewPath("spec", "force")
)

// Reinstall has an image installed. The metal-api itself would take one of another feature, or
// one that has expired, and wipes the disk before it finds out that an image does not fit: what
// can be known is checked before.
func (o *Operator) Reinstall(ctx context.Context, t Target, spec infrastructure.MachineReinstallSpec) (_ *infrastructure.MachineReinstall, err error) {
	defer o.observe(verbReinstall)(&err)
	if spec.Reason, err = requireReason(reinstallKind, spec.Reason); err != nil {
		return nil, o.status(t, err)
	}
	image, err := o.imageFor(ctx, t, spec.Image)
	if err != nil {
		return nil, o.status(t, err)
	}
	r := request{kind: reinstallKind, action: infrastructure.OperationReinstall, image: image.ID, reason: spec.Reason}
	return operate(ctx, o, t, allocation.VerbReinstall, func(ctx context.Context, s *subject) (*infrastructure.MachineReinstall, error) {
		answer := &infrastructure.MachineReinstall{ObjectMeta: s.objectMeta(), Spec: spec, Status: infrastructure.MachineReinstallStatus{Image: image.ID}}
		if err := s.checkOwner(spec); err != nil {
			return nil, err
		}
		if repeated, err := s.repeated(r); repeated || err != nil {
			return answer, err
		}
		m, err := s.observe(ctx)
		if err != nil {
			return nil, err
		}
		if err := s.checkReinstallable(ctx, m, spec, image); err != nil {
			return nil, err
		}
		if allocation.IsDryRun(ctx) {
			return answer, nil
		}
		what := fmt.Sprintf("The %s, which wipes the disk, is requested", r.what())
		if err := s.recordFirst(ctx, ReasonReinstallRequested, infrastructure.OperationReinstall, s.note(what, r.reason)); err != nil {
			return nil, err
		}
		ended, err := s.callOnce(ctx, r, func(ctx context.Context) error {
			_, err := o.opts.Metal.Reinstall(ctx, s.machineID, image.ID, r.reason)
			return err
		})
		s.recordFailure(ctx, ReasonReinstallRequested, infrastructure.OperationReinstall, r, ended, err)
		return answer, err
	})
}

// imageFor returns the image that a name stands for, as the metal-api resolves it when it
// allocates: the newest of an alias, whatever it is like.
func (o *Operator) imageFor(ctx context.Context, t Target, name string) (*metal.Image, error) {
	feature, kind := metal.FeatureMachine, "machines"
	if t.Kind == "MetalStackFirewall" {
		feature, kind = metal.FeatureFirewall, "firewalls"
	}
	if name == "" {
		return nil, allocation.RefuseField(reinstallKind, field.Required(imagePath, "must be an image, or an alias for the newest of a version"))
	}
	ctx = o.opts.Catalogue.WithAllowance(ctx, t.Namespace)
	image, _, err := o.opts.Catalogue.LookupImage(ctx, name, "")
	if image == nil {
		if err != nil {
			return nil, lookupError(err)
		}
		_, known, err := o.opts.Catalogue.LookupImage(ctx, name, feature)
		if err != nil {
			return nil, lookupError(err)
		}
		return nil, allocation.RefuseField(reinstallKind, field.NotSupported(imagePath, name, known))
	}
	meant := image.ID
	if meant != name {
		meant = fmt.Sprintf("%s, which the alias stands for,", meant)
	}
	switch {
	case !slices.Contains(image.Features, feature):
		return nil, allocation.RefuseField(reinstallKind, field.Invalid(imagePath, name,
			fmt.Sprintf("image %s has the features %s: must have the feature %s of %s", meant, strings.Join(image.Features, ", "), feature, kind)))
	case !image.Expires.IsZero() && !image.Expires.After(o.clock.Now()):
		return nil, allocation.RefuseField(reinstallKind, field.Invalid(imagePath, name,
			fmt.Sprintf("image %s expired at %s: must not have expired", meant, image.Expires.UTC().Format(time.RFC3339))))
	}
	return image, nil
}

// checkOwner refuses a machine that Cluster API reconciles, unless that is insisted on.
func (s *subject) checkOwner(spec infrastructure.MachineReinstallSpec) error {
	owner := s.clusterAPIMachine()
	if owner == "" || spec.Force {
		return nil
	}
	return allocation.RefuseField(reinstallKind, field.Invalid(forcePath, false, fmt.Sprintf(
		"the machine is that of Machine %q of Cluster API, and would boot with the user data that it was allocated with, whose token to join has mostly expired: "+
			"delete the Machine to have it replaced, or set true to reinstall it all the same",
		owner)))
}

// clusterAPIMachine is the name of the Machine of Cluster API that the object belongs to, or
// empty.
func (s *subject) clusterAPIMachine() string {
	if s.held == nil {
		return ""
	}
	for _, r := range s.held.Meta.OwnerReferences {
		if group, _, _ := strings.Cut(r.APIVersion, "/"); r.Kind == "Machine" && group == "cluster.x-k8s.io" {
			return r.Name
		}
	}
	return ""
}

// checkUnlocked refuses to have a locked machine installed.
func checkUnlocked(m *metal.Machine) error {
	if m.State != metal.StateLocked {
		return nil
	}
	return allocation.Refuse(http.StatusConflict, 0, "machine %s is locked in metal-stack (%s): a locked machine is not reinstalled", m.ID, oneline.Sanitize(m.StateDescription, maxReason))
}

// checkReinstallable refuses what the metal-api would refuse, or do badly.
func (s *subject) checkReinstallable(ctx context.Context, m *metal.Machine, spec infrastructure.MachineReinstallSpec, image *metal.Image) error {
	if err := checkUnlocked(m); err != nil {
		return err
	}
	if m.Allocation.Reinstall && m.Allocation.Image == image.ID && !isUncertainReinstall(s.last(), image.ID) {
		return allocation.Refuse(http.StatusConflict, 0,
			"machine %s is marked for a reinstallation with image %q, or installs it already: if it does not boot, request the power action Reset", m.ID, image.ID)
	}
	layout, err := s.operator.opts.Metal.Layout(ctx, m.ID)
	switch {
	case metal.IsNotFound(err):
		return allocation.Refuse(http.StatusConflict, 0, "the metal-api does not show the file system layout of machine %s: it has no provisioning events", m.ID)
	case err != nil:
		return allocation.RefuseCall(reinstallKind, err, nil)
	case layout.AllocationUUID != s.allocationUUID:
		return allocation.Refuse(http.StatusConflict, time.Second, "machine %s was allocated again meanwhile", m.ID)
	case layout.ID == "":
		return nil // The metal-api chooses one.
	case !layout.Reinstallable:
		return allocation.RefuseField(reinstallKind, field.Forbidden(imagePath, fmt.Sprintf(
			"machine %s was allocated with file system layout %q, with which no image can be installed again: it wipes no disk", m.ID, layout.ID)))
	case layout.Refuses(image.ID):
		return allocation.RefuseField(reinstallKind, field.Invalid(imagePath, spec.Image,
			fmt.Sprintf("machine %s was allocated with file system layout %q: must be an image that it is for: %s", m.ID, layout.ID, layoutImages(layout))))
	}
	return nil
}

// isUncertainReinstall reports whether a machine may be marked without a request to reboot.
func isUncertainReinstall(last *infrastructure.MachineOperation, image string) bool {
	return last != nil && last.Action == infrastructure.OperationReinstall && last.Image == image &&
		(last.Outcome == infrastructure.OperationUncertain || last.Outcome == infrastructure.OperationRequested)
}

// layoutImages are the images that a layout is for.
func layoutImages(l *metal.Layout) string {
	var all []string
	for os, versions := range l.Images {
		all = append(all, strings.TrimSpace(os+" "+versions))
	}
	slices.Sort(all)
	return oneline.Sanitize(strings.Join(all, ", "), maxReason)
}
