// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"errors"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/admission"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
)

const (
	// rightsHint is what a server lacks that may not read policies or webhooks.
	rightsHint = "grant the ServiceAccount metalstack-apiserver get, list and watch of them, as artifacts/deploy/apiserver-rbac.yaml does"
	// paramsUnsynced is in the error of a policy whose parameters could not be read yet.
	paramsUnsynced = "not yet synced to use for admission"
	// paramsRight is what a server lacks that may not read parameters: upstream's server may
	// read everything.
	paramsRight = "get, list and watch to the ServiceAccount metalstack-apiserver by a ClusterRole with the label " + ParamsLabel + `="true"`
	paramsHint  = ": if this remains, the ServiceAccount metalstack-apiserver may not get, list and watch this kind: grant it by a ClusterRole with the label " + ParamsLabel + `="true"`
)

// ParamsLabel is the label of ClusterRoles with which this server may read the parameters of
// policies: artifacts/deploy/apiserver-rbac.yaml aggregates them.
const ParamsLabel = "metal-stack.infrastructure.cluster.x-k8s.io/aggregate-to-admission-params"

// explain adds to an error of a plugin what an operator can do about parameters of a policy.
// To one that is not about the request, such as of a webhook that is away, it adds what the
// request was about, and that nothing was done: plugins are called before anything else
// happens.
func explain(a admission.Attributes, err error) error {
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		return err
	}
	unsynced, failed := strings.Contains(status.ErrStatus.Message, paramsUnsynced), status.ErrStatus.Code >= http.StatusInternalServerError
	if !unsynced && !failed {
		return err
	}
	explained := &apierrors.StatusError{ErrStatus: *status.ErrStatus.DeepCopy()}
	if unsynced {
		explained.ErrStatus.Message += paramsHint
	}
	if failed {
		details := explained.ErrStatus.Details
		if details == nil {
			details = &metav1.StatusDetails{}
			explained.ErrStatus.Details = details
		}
		details.Group, details.Kind, details.Name = a.GetResource().Group, a.GetResource().Resource, a.GetName()
		details.Causes = append(details.Causes, metav1.StatusCause{Type: infrastructure.CauseNotAdmitted, Message: "admission failed before anything was done"})
	}
	return explained
}
