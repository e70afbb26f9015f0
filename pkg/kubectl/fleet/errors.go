// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// grantedBy are the ClusterRoles that grant each subresource; "" is for the objects.
var grantedBy = map[string]string{
	"":              "view (to read) and edit (to create)",
	Power:           "metalstack-operator",
	Identify:        "metalstack-operator",
	Log:             "metalstack-operator",
	ConsolePassword: "metalstack-console",
	Reinstall:       "metalstack-reinstall",
	Lock:            "metalstack-lock",
}

// discoveredOperator grants verbs on discovered machines, in addition.
const discoveredOperator = "metalstack-discovered-operator"

// Explained is an error of the server with what a user can do about it.
type Explained struct {
	error
	Hint string
}

// Unwrap returns the error of the server.
func (e *Explained) Unwrap() error { return e.error }

// explainChange adds a hint to an error of a request that changes something.
func (c *Client) explainChange(ctx context.Context, err error, ref Reference, subresource string) error {
	if err != nil && mayHaveBeenDone(err) {
		return &Explained{err, "It may have been done. `kubectl metal describe` shows what is known of it."}
	}
	return c.explain(ctx, err, ref, subresource)
}

// mayHaveBeenDone returns whether a request may have reached the server that carries it out.
func mayHaveBeenDone(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		var failed *net.OpError
		return !errors.As(err, &failed) || failed.Op != "dial"
	}
	return apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsInternalError(err) ||
		status.Status().Code >= http.StatusInternalServerError && isUnexpected(err)
}

// explain adds a hint to an error, if there is one.
func (c *Client) explain(ctx context.Context, err error, ref Reference, subresource string) error {
	if err == nil {
		return nil
	}
	if hint := c.hint(ctx, err, ref, subresource); hint != "" {
		return &Explained{err, hint}
	}
	return err
}

func (c *Client) hint(ctx context.Context, err error, ref Reference, subresource string) string {
	switch {
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "/discovered"):
		return fmt.Sprintf("The machine was not allocated by this API: the ClusterRole %s grants this, in addition to %s.", discoveredOperator, grantedBy[subresource])
	case apierrors.IsForbidden(err) && subresource == Power && strings.Contains(err.Error(), "/"+Reinstall+`"`):
		return fmt.Sprintf("The ClusterRole %s grants this, in addition to %s.", grantedBy[Reinstall], grantedBy[Power])
	case apierrors.IsForbidden(err):
		return fmt.Sprintf("ClusterRole that grants it: %s. An administrator of the namespace binds it: kubectl create rolebinding … --clusterrole=….", grantedBy[subresource])
	case apierrors.IsNotFound(err) && subresource != "" && isUnexpected(err):
		return fmt.Sprintf("The API server does not serve the subresource %s of %s: it is older than this plugin.", subresource, ref.Kind.Resource)
	case apierrors.IsNotFound(err) && ref.Name != "":
		return c.otherNames(ctx, ref.Name)
	}
	return ""
}

// isUnexpected returns whether an answer is no status of Kubernetes, as if a server has no such
// path, or a proxy did not reach it.
func isUnexpected(err error) bool {
	return apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
}

// otherNames finds the object that a user means by a machine's id, its hostname or the name of
// another kind. What cannot be read is not suggested.
func (c *Client) otherNames(ctx context.Context, name string) string {
	var found []string
	for _, kind := range []Kind{Machine, Firewall} {
		page, _, err := c.list(ctx, kind, c.Namespace, metav1.ListOptions{Limit: pageSize})
		if err != nil {
			continue
		}
		for _, o := range page {
			what := ""
			switch {
			case o.Name == name:
				what = "that name"
			case o.Metal == nil:
			case o.Metal.MachineID == name:
				what = "that machine id"
			case o.Metal.Hostname == name:
				what = "that hostname"
			}
			if what != "" {
				found = append(found, fmt.Sprintf("%s has %s.", o.Reference().Arg(), what))
			}
		}
	}
	if len(found) == 0 {
		return fmt.Sprintf("`kubectl metal ls --namespace=%s` lists what there is.", c.Namespace)
	}
	return strings.Join(found, " ")
}
