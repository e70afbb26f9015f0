// SPDX-License-Identifier: Apache-2.0

package tenancy

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// operationSubresources are those by which machines are operated, and the one that stands
// for discovered machines.
var operationSubresources = []string{"power", "identify", "consolepassword", "log", "reinstall", "lock", "discovered"}

// operationBody is the body of a valid request; metadata is JSON.
func operationBody(subresource, metadata string) string {
	spec, found := map[string]string{
		"power": `{"action":"Off"}`, "identify": `{"state":"On"}`, "consolepassword": `{"reason":"x"}`,
		"reinstall": `{"image":"ubuntu-24.04","reason":"x","force":true}`, "lock": `{"reason":"x"}`,
	}[subresource]
	if !found {
		spec = "{}"
	}
	return fmt.Sprintf(`{"metadata":%s,"spec":%s}`, metadata, spec)
}

func posted(ctx context.Context, c client, namespace, name, subresource, body string) error {
	return done(nil, c.RESTClient().Post().Namespace(namespace).Resource("metalstackmachines").Name(name).SubResource(subresource).
		SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(ctx).Error())
}

func got(ctx context.Context, c client, namespace, name, subresource string) error {
	return done(nil, c.RESTClient().Get().Namespace(namespace).Resource("metalstackmachines").Name(name).SubResource(subresource).Do(ctx).Error())
}

func unlocked(ctx context.Context, c client, namespace, name string) error {
	return done(nil, c.RESTClient().Delete().Namespace(namespace).Resource("metalstackmachines").Name(name).SubResource("lock").Param("reason", "x").Do(ctx).Error())
}

// operations are all requests for one machine, by what they do.
func operations(reason metav1.StatusReason, where string, namespace, name func(*target) string) (all []attempt) {
	for _, subresource := range []string{"power", "identify", "consolepassword", "reinstall", "lock"} {
		all = append(all, attempt{"create " + subresource + " of " + where, reason, func(ctx context.Context, c client, v *target) error {
			return posted(ctx, c, namespace(v), name(v), subresource, operationBody(subresource, "{}"))
		}})
	}
	for _, subresource := range []string{"power", "log", "lock"} {
		all = append(all, attempt{"get " + subresource + " of " + where, reason, func(ctx context.Context, c client, v *target) error {
			return got(ctx, c, namespace(v), name(v), subresource)
		}})
	}
	return append(all, attempt{"delete lock of " + where, reason, func(ctx context.Context, c client, v *target) error {
		return unlocked(ctx, c, namespace(v), name(v))
	}})
}

// operationAttempts are those of a user who may do everything with our kinds, and operate all
// machines, in a namespace of their own.
func operationAttempts() (all []attempt) {
	theirNamespace, ownNamespace := func(v *target) string { return v.namespace }, func(*target) string { return own }
	all = append(all, operations(metav1.StatusReasonForbidden, "their machine", theirNamespace, func(v *target) string { return v.machine })...)
	all = append(all, operations(metav1.StatusReasonForbidden, "their discovered machine", theirNamespace, func(v *target) string { return v.discovered })...)
	all = append(all, operations(metav1.StatusReasonNotFound, "their machine in one's own namespace", ownNamespace, func(v *target) string { return v.machine })...)
	all = append(all, operations(metav1.StatusReasonNotFound, "their machine by id in one's own namespace", ownNamespace, func(v *target) string { return v.held })...)
	all = append(all, operations(metav1.StatusReasonNotFound, "their discovered machine in one's own namespace", ownNamespace, func(v *target) string { return v.discovered })...)
	for _, subresource := range []string{"power", "identify", "consolepassword", "reinstall", "lock"} {
		all = append(all,
			attempt{"create " + subresource + " with their name in the body", metav1.StatusReasonInvalid, func(ctx context.Context, c client, v *target) error {
				return posted(ctx, c, own, "mine", subresource, operationBody(subresource, fmt.Sprintf(`{"name":%q}`, v.machine)))
			}},
			attempt{"create " + subresource + " with their namespace in the body", metav1.StatusReasonBadRequest, func(ctx context.Context, c client, v *target) error {
				return posted(ctx, c, own, "mine", subresource, operationBody(subresource, fmt.Sprintf(`{"namespace":%q}`, v.namespace)))
			}},
			attempt{"create " + subresource + " with their uid in the body", metav1.StatusReasonConflict, func(ctx context.Context, c client, v *target) error {
				return posted(ctx, c, own, "mine", subresource, operationBody(subresource, fmt.Sprintf(`{"uid":%q}`, v.uid)))
			}},
			attempt{"create " + subresource + " with their machine as an owner", metav1.StatusReasonConflict, func(ctx context.Context, c client, v *target) error {
				owner := fmt.Sprintf(`{"ownerReferences":[{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4","kind":"MetalStackMachine","name":%q,"uid":%q}]}`, v.machine, v.uid)
				return posted(ctx, c, own, "mine", subresource, operationBody(subresource, owner)) // which holds no machine
			}},
			attempt{"create " + subresource + " with a huge body", metav1.StatusReasonRequestEntityTooLarge, func(ctx context.Context, c client, _ *target) error {
				return posted(ctx, c, own, "mine", subresource, operationBody(subresource, fmt.Sprintf(`{"annotations":{"a":%q}}`, strings.Repeat("a", 20_000))))
			}},
			attempt{"create " + subresource + " with a malformed body", metav1.StatusReasonBadRequest, func(ctx context.Context, c client, _ *target) error {
				return posted(ctx, c, own, "mine", subresource, `{"spec":`)
			}},
			attempt{"create " + subresource + " with the body of another kind", metav1.StatusReasonBadRequest, func(ctx context.Context, c client, _ *target) error {
				return posted(ctx, c, own, "mine", subresource, `{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha4","kind":"Allocation"}`)
			}},
		)
		if subresource == "power" || subresource == "identify" {
			continue
		}
		all = append(all, attempt{"create " + subresource + " without a reason", metav1.StatusReasonInvalid, func(ctx context.Context, c client, _ *target) error {
			return posted(ctx, c, own, "mine", subresource, strings.ReplaceAll(operationBody(subresource, "{}"), `"reason":"x"`, `"reason":" "`))
		}}, attempt{"create " + subresource + " with a reason of two lines", metav1.StatusReasonInvalid, func(ctx context.Context, c client, _ *target) error {
			return posted(ctx, c, own, "mine", subresource, strings.ReplaceAll(operationBody(subresource, "{}"), `"reason":"x"`, `"reason":"x\nPower was requested by \"bob\""`))
		}})
	}
	return all
}
