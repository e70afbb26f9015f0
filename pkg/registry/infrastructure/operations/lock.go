// SPDX-License-Identifier: Apache-2.0

package operations

import (
	"context"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/util/dryrun"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/validation"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

const lockSubresource = "lock"

// lockREST serves the subresource lock: a get shows metal-stack's lock, a create locks the
// machine, and a delete, whose query parameter reason says why, unlocks it.
type lockREST struct {
	creater[*infrastructure.MachineLock]
}

var (
	_ rest.Getter                     = lockREST{}
	_ rest.NamedCreater               = lockREST{}
	_ rest.GracefulDeleter            = lockREST{}
	_ rest.MayReturnFullObjectDeleter = lockREST{}
	_ rest.TableConvertor             = lockREST{}
)

func newLockREST(r *Resource) lockREST {
	return lockREST{creater[*infrastructure.MachineLock]{
		bodyREST: bodyREST[*infrastructure.MachineLock]{r, "MachineLock", func() *infrastructure.MachineLock { return &infrastructure.MachineLock{} }},
		validate: validation.ValidateLock,
		operate: func(ctx context.Context, t infrastructure.OperationTarget, body *infrastructure.MachineLock) (*infrastructure.MachineLock, error) {
			return r.Operator.Lock(ctx, t, body.Spec)
		},
	}}
}

// Get implements rest.Getter.
func (r lockREST) Get(ctx context.Context, name string, _ *metav1.GetOptions) (runtime.Object, error) {
	return r.get(ctx, name, r.resource.Operator.LockState)
}

// Delete implements rest.GracefulDeleter.
func (r lockREST) Delete(ctx context.Context, name string, validate rest.ValidateObjectFunc, options *metav1.DeleteOptions) (runtime.Object, bool, error) {
	reason, _ := ctx.Value(unlockReasonKey{}).(string)
	if errs := validation.ValidateUnlockReason(reason); len(errs) > 0 {
		return nil, false, apierrors.NewInvalid(infrastructure.Kind(r.kind), name, registry.LimitErrors(errs))
	}
	obj, target, err := r.resource.write(ctx, name, "")
	if err != nil {
		return nil, false, err
	}
	if options != nil && options.Preconditions != nil {
		if err := registry.CheckPreconditions(r.resource.Resource, obj, *options.Preconditions); err != nil {
			return nil, false, err
		}
	}
	if validate != nil {
		if err := validate(ctx, r.newBody()); err != nil {
			return nil, false, err
		}
	}
	if options != nil && dryrun.IsDryRun(options.DryRun) {
		ctx = r.resource.Operator.WithDryRun(ctx)
	}
	ctx, cancel := registry.WithDeadlineMargin(ctx)
	defer cancel()
	lock, err := r.resource.Operator.Unlock(ctx, target, reason)
	result, err := answer(target, lock, err)
	return result, err == nil, err
}

// DeleteReturnsDeletedObject implements rest.MayReturnFullObjectDeleter.
func (r lockREST) DeleteReturnsDeletedObject() bool { return true }

// ConvertToTable implements rest.TableConvertor.
func (r lockREST) ConvertToTable(_ context.Context, object, options runtime.Object) (*metav1.Table, error) {
	lock, ok := object.(*infrastructure.MachineLock)
	if !ok {
		return nil, unexpectedType(object)
	}
	locked := column("Locked", "", "Whether the machine is locked in metal-stack.")
	locked.Type = "boolean"
	return table(options, []metav1.TableColumnDefinition{
		column("Name", "name", "Name of the machine or firewall."),
		locked,
		column("Reason", "", "Description of the machine's state in metal-stack."),
	}, row{lock, []any{lock.Name, lock.Status.Locked, registry.OrNone(lock.Status.Reason)}})
}

type unlockReasonKey struct{}

// WithUnlockReason keeps the query parameter that says why a lock is deleted: a delete has
// options, and no body of its own.
func WithUnlockReason(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		info, known := request.RequestInfoFrom(req.Context())
		if !known || info.APIGroup != infrastructure.GroupName || info.Subresource != lockSubresource || info.Verb != "delete" {
			next.ServeHTTP(w, req)
			return
		}
		next.ServeHTTP(w, req.WithContext(withUnlockReason(req.Context(), req.URL.Query().Get("reason"))))
	})
}

func withUnlockReason(ctx context.Context, reason string) context.Context {
	return context.WithValue(ctx, unlockReasonKey{}, reason)
}
