// SPDX-License-Identifier: Apache-2.0

package operations

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/registry"
)

// call is one call of the operator.
type call struct {
	name   string
	target infrastructure.OperationTarget
	spec   any
	dryRun bool
}

type dryRunKey struct{}

// recordingOperator keeps the calls that it gets.
type recordingOperator struct {
	calls []call
	err   error
	// wait makes each call wait for its context.
	wait bool
}

func (o *recordingOperator) add(ctx context.Context, name string, t infrastructure.OperationTarget, spec any) error {
	o.calls = append(o.calls, call{name, t, spec, ctx.Value(dryRunKey{}) != nil})
	if o.wait {
		<-ctx.Done()
		return apierrors.NewTimeoutError("it may have been sent", 1)
	}
	return o.err
}

func (o *recordingOperator) WithDryRun(ctx context.Context) context.Context {
	return context.WithValue(ctx, dryRunKey{}, true)
}

func (o *recordingOperator) PowerState(ctx context.Context, t infrastructure.OperationTarget) (*infrastructure.MachinePower, error) {
	return &infrastructure.MachinePower{Status: infrastructure.MachinePowerStatus{State: infrastructure.PowerStateOn}}, o.add(ctx, "PowerState", t, nil)
}

func (o *recordingOperator) RequestPower(ctx context.Context, t infrastructure.OperationTarget, spec infrastructure.MachinePowerSpec) (*infrastructure.MachinePower, error) {
	return &infrastructure.MachinePower{Spec: spec, Status: infrastructure.MachinePowerStatus{State: infrastructure.PowerStateOn}}, o.add(ctx, "RequestPower", t, spec)
}

func (o *recordingOperator) Identify(ctx context.Context, t infrastructure.OperationTarget, spec infrastructure.MachineIdentifySpec) (*infrastructure.MachineIdentify, error) {
	return &infrastructure.MachineIdentify{Spec: spec}, o.add(ctx, "Identify", t, spec)
}

func (o *recordingOperator) ConsolePassword(ctx context.Context, t infrastructure.OperationTarget, spec infrastructure.MachineConsolePasswordSpec) (*infrastructure.MachineConsolePassword, error) {
	return &infrastructure.MachineConsolePassword{Spec: spec, Status: infrastructure.MachineConsolePasswordStatus{Password: "secret"}}, o.add(ctx, "ConsolePassword", t, spec)
}

func (o *recordingOperator) Log(ctx context.Context, t infrastructure.OperationTarget) (*infrastructure.MachineLog, error) {
	return &infrastructure.MachineLog{}, o.add(ctx, "Log", t, nil)
}

func (o *recordingOperator) Reinstall(ctx context.Context, t infrastructure.OperationTarget, spec infrastructure.MachineReinstallSpec) (*infrastructure.MachineReinstall, error) {
	return &infrastructure.MachineReinstall{Spec: spec}, o.add(ctx, "Reinstall", t, spec)
}

func (o *recordingOperator) LockState(ctx context.Context, t infrastructure.OperationTarget) (*infrastructure.MachineLock, error) {
	return &infrastructure.MachineLock{}, o.add(ctx, "LockState", t, nil)
}

func (o *recordingOperator) Lock(ctx context.Context, t infrastructure.OperationTarget, spec infrastructure.MachineLockSpec) (*infrastructure.MachineLock, error) {
	return &infrastructure.MachineLock{Spec: spec}, o.add(ctx, "Lock", t, spec)
}

func (o *recordingOperator) Unlock(ctx context.Context, t infrastructure.OperationTarget, reason string) (*infrastructure.MachineLock, error) {
	return &infrastructure.MachineLock{}, o.add(ctx, "Unlock", t, reason)
}

// authorizerOf answers with an error, and keeps what it was asked.
type authorizerOf struct {
	err   error
	asked []string
	// reinstallErr is the answer for reinstallations.
	reinstallErr error
}

func (a *authorizerOf) AuthorizeReinstall(_ context.Context, u user.Info, resource schema.GroupResource, namespace, name string) error {
	a.asked = append(a.asked, u.GetName()+" reinstall "+resource.Resource+" "+namespace+"/"+name)
	return a.reinstallErr
}

func (a *authorizerOf) AuthorizeDiscovered(_ context.Context, u user.Info, resource schema.GroupResource, namespace, name string) error {
	a.asked = append(a.asked, u.GetName()+" "+resource.Resource+" "+namespace+"/"+name)
	return a.err
}

const (
	uid     = types.UID("5e0ac2b4-7f5e-4f3b-9a37-0f9b5b4f1c11")
	version = "7"
)

// environment is the subresources of a resource with two machines.
type environment struct {
	operator   *recordingOperator
	authorizer *authorizerOf
	storage    map[string]rest.Storage
}

func newEnvironment() *environment {
	e := &environment{operator: &recordingOperator{}, authorizer: &authorizerOf{}}
	e.storage = Storage(&Resource{
		Resource: infrastructure.Resource("metalstackmachines"), Kind: "MetalStackMachine", Operator: e.operator, Authorizer: e.authorizer,
		Get: func(_ context.Context, namespace, name string) (metav1.Object, *infrastructure.Metal, error) {
			m := &infrastructure.MetalStackMachine{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: uid, ResourceVersion: version}}
			switch name {
			case "managed":
				m.Status.Metal = &infrastructure.Metal{MachineID: "m", Managed: true}
			case "discovered":
				m.Status.Metal = &infrastructure.Metal{MachineID: "d"}
			case "pending":
			default:
				return nil, nil, apierrors.NewNotFound(infrastructure.Resource("metalstackmachines"), name)
			}
			return m, m.Status.Metal, nil
		},
	})
	return e
}

func as(name string) context.Context {
	return request.WithUser(request.WithNamespace(context.Background(), "team-a"), &user.DefaultInfo{Name: name})
}

func (e *environment) create(ctx context.Context, subresource, name string, body runtime.Object, dryRun ...string) (runtime.Object, error) {
	return e.storage[subresource].(rest.NamedCreater).Create(ctx, name, body, rest.ValidateAllObjectFunc, &metav1.CreateOptions{DryRun: dryRun})
}

func (e *environment) get(ctx context.Context, subresource, name string) (runtime.Object, error) {
	return e.storage[subresource].(rest.Getter).Get(ctx, name, &metav1.GetOptions{})
}

func (e *environment) unlock(ctx context.Context, name string, options *metav1.DeleteOptions) (runtime.Object, error) {
	obj, _, err := e.storage["lock"].(rest.GracefulDeleter).Delete(ctx, name, rest.ValidateAllObjectFunc, options)
	return obj, err
}

// valid are valid bodies by subresource.
func valid(meta metav1.ObjectMeta) map[string]runtime.Object {
	return map[string]runtime.Object{
		"power":           &infrastructure.MachinePower{ObjectMeta: meta, Spec: infrastructure.MachinePowerSpec{Action: infrastructure.PowerCycle, Reason: "<b>hangs</b>", RequestID: "r/1/off"}},
		"identify":        &infrastructure.MachineIdentify{ObjectMeta: meta, Spec: infrastructure.MachineIdentifySpec{State: infrastructure.LEDOn}},
		"consolepassword": &infrastructure.MachineConsolePassword{ObjectMeta: meta, Spec: infrastructure.MachineConsolePasswordSpec{Reason: "no network"}},
		"reinstall":       &infrastructure.MachineReinstall{ObjectMeta: meta, Spec: infrastructure.MachineReinstallSpec{Image: "ubuntu-24.04", Reason: "broken"}},
		"lock":            &infrastructure.MachineLock{ObjectMeta: meta, Spec: infrastructure.MachineLockSpec{Reason: "evidence"}},
	}
}

// writes are all requests that change something, or show a secret, for one object.
func (e *environment) writes(ctx context.Context, name string, meta metav1.ObjectMeta) map[string]func() (runtime.Object, error) {
	all := map[string]func() (runtime.Object, error){
		"delete lock": func() (runtime.Object, error) {
			options := &metav1.DeleteOptions{}
			if meta.UID != "" {
				options.Preconditions = &metav1.Preconditions{UID: &meta.UID}
			}
			return e.unlock(withUnlockReason(ctx, "done"), name, options)
		},
	}
	for subresource, body := range valid(meta) {
		all["create "+subresource] = func() (runtime.Object, error) { return e.create(ctx, subresource, name, body) }
	}
	return all
}

func (e *environment) reads(ctx context.Context, name string) map[string]func() (runtime.Object, error) {
	all := map[string]func() (runtime.Object, error){}
	for _, subresource := range []string{"power", "log", "lock"} {
		all["get "+subresource] = func() (runtime.Object, error) { return e.get(ctx, subresource, name) }
	}
	return all
}

func TestSubresources_HandOverToOperator(t *testing.T) {
	t.Parallel()
	want := map[string]call{
		"get power": {name: "PowerState"}, "get log": {name: "Log"}, "get lock": {name: "LockState"}, "delete lock": {name: "Unlock", spec: "done"},
		"create power":           {name: "RequestPower", spec: infrastructure.MachinePowerSpec{Action: infrastructure.PowerCycle, Reason: "<b>hangs</b>", RequestID: "r/1/off"}},
		"create identify":        {name: "Identify", spec: infrastructure.MachineIdentifySpec{State: infrastructure.LEDOn}},
		"create consolepassword": {name: "ConsolePassword", spec: infrastructure.MachineConsolePasswordSpec{Reason: "no network"}},
		"create reinstall":       {name: "Reinstall", spec: infrastructure.MachineReinstallSpec{Image: "ubuntu-24.04", Reason: "broken"}},
		"create lock":            {name: "Lock", spec: infrastructure.MachineLockSpec{Reason: "evidence"}},
	}
	e := newEnvironment()
	requests := e.writes(as("alice"), "managed", metav1.ObjectMeta{})
	for what, get := range e.reads(as("alice"), "managed") {
		requests[what] = get
	}
	require.Len(t, requests, len(want))
	for what, do := range requests {
		e.operator.calls = nil
		obj, err := do()
		require.NoError(t, err, what)
		expected := want[what]
		expected.target = infrastructure.OperationTarget{Kind: "MetalStackMachine", Namespace: "team-a", Name: "managed", UID: uid, User: "alice"}
		assert.Equal(t, []call{expected}, e.operator.calls, what)
		meta := obj.(metav1.Object)
		assert.Equal(t, []any{"team-a", "managed", uid}, []any{meta.GetNamespace(), meta.GetName(), meta.GetUID()}, what)
	}
	assert.Empty(t, e.authorizer.asked, "these rights are the kube-apiserver's to check")
}

func TestSubresources_StatusInBodyIsIgnored(t *testing.T) {
	t.Parallel()
	e := newEnvironment()
	obj, err := e.create(as("alice"), "power", "managed", &infrastructure.MachinePower{
		Spec: infrastructure.MachinePowerSpec{Action: infrastructure.PowerOn}, Status: infrastructure.MachinePowerStatus{State: infrastructure.PowerStateOff},
	})
	require.NoError(t, err)
	assert.Equal(t, infrastructure.MachinePowerStatus{State: infrastructure.PowerStateOn}, obj.(*infrastructure.MachinePower).Status, "the operator's")
}

func TestPower_BootFromNetworkNeedsTheRightToReinstall(t *testing.T) {
	t.Parallel()
	e := newEnvironment()
	boot := func(name string, action infrastructure.PowerAction) error {
		e.operator.calls, e.authorizer.asked = nil, nil
		_, err := e.create(as("alice"), "power", name, &infrastructure.MachinePower{Spec: infrastructure.MachinePowerSpec{Action: action, Reason: "broken"}})
		return err
	}
	require.NoError(t, boot("managed", infrastructure.PowerBootPXE))
	assert.Equal(t, []string{"alice reinstall metalstackmachines team-a/managed"}, e.authorizer.asked)
	assert.Len(t, e.operator.calls, 1)
	require.NoError(t, boot("discovered", infrastructure.PowerBootPXE))
	assert.Equal(t, []string{"alice metalstackmachines team-a/discovered", "alice reinstall metalstackmachines team-a/discovered"}, e.authorizer.asked)

	for _, refusal := range []error{
		apierrors.NewForbidden(infrastructure.Resource("metalstackmachines"), "managed", errors.New("no right")),
		apierrors.NewServiceUnavailable("authorizer unavailable"),
	} {
		e.authorizer.reinstallErr = refusal
		require.ErrorIs(t, boot("managed", infrastructure.PowerBootPXE), refusal)
		require.ErrorIs(t, boot("discovered", infrastructure.PowerBootPXE), refusal)
		assert.Empty(t, e.operator.calls)
		require.NoError(t, boot("managed", infrastructure.PowerBootDisk))
		assert.Empty(t, e.authorizer.asked)
	}
}

func TestSubresources_DiscoveredMachineNeedsRightOfItsOwn(t *testing.T) {
	t.Parallel()
	e := newEnvironment()
	for what, do := range e.writes(as("alice"), "discovered", metav1.ObjectMeta{}) {
		e.operator.calls, e.authorizer.asked, e.authorizer.err = nil, nil, nil
		_, err := do()
		require.NoError(t, err, what)
		assert.Equal(t, []string{"alice metalstackmachines team-a/discovered"}, e.authorizer.asked, what)
		assert.Equal(t, "d", e.operator.calls[0].target.Discovered.MachineID, what)

		for _, refusal := range []error{
			apierrors.NewForbidden(infrastructure.Resource("metalstackmachines"), "discovered", errors.New("no right")),
			apierrors.NewServiceUnavailable("authorizer unavailable"),
		} {
			e.operator.calls, e.authorizer.err = nil, refusal
			_, err = do()
			require.ErrorIs(t, err, refusal, what)
			assert.Empty(t, e.operator.calls, what)
		}
	}
	for what, do := range e.reads(as("alice"), "discovered") {
		e.authorizer.asked = nil
		_, err := do()
		require.NoError(t, err, what)
		assert.Empty(t, e.authorizer.asked, what)
	}
}

func TestSubresources_ObjectOfAnotherUIDIsConflict(t *testing.T) {
	t.Parallel()
	e := newEnvironment()
	for _, name := range []string{"managed", "discovered", "pending"} {
		for what, do := range e.writes(as("alice"), name, metav1.ObjectMeta{UID: "another"}) {
			_, err := do()
			assert.True(t, apierrors.IsConflict(err), "%s of %s: %v", what, name, err)
		}
		for what, do := range e.writes(as("alice"), name, metav1.ObjectMeta{UID: uid, Name: name}) {
			_, err := do()
			require.NoError(t, err, "%s of %s", what, name)
		}
	}
	other := "6"
	_, err := e.unlock(withUnlockReason(as("alice"), "done"), "managed", &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &other}})
	assert.True(t, apierrors.IsConflict(err), "%v", err)
	assert.NotEmpty(t, e.operator.calls)
}

func TestSubresources_RefuseBodyOfAnotherName(t *testing.T) {
	t.Parallel()
	e := newEnvironment()
	for subresource, body := range valid(metav1.ObjectMeta{Name: "pending"}) {
		_, err := e.create(as("alice"), subresource, "managed", body)
		assert.True(t, apierrors.IsInvalid(err), "%s: %v", subresource, err)
		assert.ErrorContains(t, err, `metadata.name: Invalid value: "pending": must be the name of the object that the URL names, which is "managed"`)
	}
	assert.Empty(t, e.operator.calls)
}

func TestSubresources_HiddenObjectIsNotFound(t *testing.T) {
	t.Parallel()
	e := newEnvironment()
	requests := e.writes(as("alice"), "hidden", metav1.ObjectMeta{})
	for what, get := range e.reads(as("alice"), "hidden") {
		requests[what] = get
	}
	for what, do := range requests {
		_, err := do()
		assert.True(t, apierrors.IsNotFound(err), "%s: %v", what, err)
	}
	assert.Empty(t, e.operator.calls)
}

func TestSubresources_DryRunIsOneForTheOperator(t *testing.T) {
	t.Parallel()
	e := newEnvironment()
	for subresource, body := range valid(metav1.ObjectMeta{}) {
		_, err := e.create(as("alice"), subresource, "managed", body, metav1.DryRunAll)
		require.NoError(t, err)
	}
	_, err := e.unlock(withUnlockReason(as("alice"), "done"), "managed", &metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
	require.NoError(t, err)
	require.Len(t, e.operator.calls, 6)
	for _, c := range e.operator.calls {
		assert.True(t, c.dryRun, c.name)
	}
}

func TestSubresources_AnswerBeforeTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnvironment()
		e.operator.wait = true
		ctx, cancel := context.WithTimeout(as("alice"), registry.DeadlineMargin+50*time.Millisecond)
		defer cancel()
		requests := e.writes(ctx, "managed", metav1.ObjectMeta{})
		for what, get := range e.reads(ctx, "managed") {
			requests[what] = get
		}
		for what, do := range requests {
			_, err := do()
			assert.True(t, apierrors.IsTimeout(err), "%s: %v", what, err)
		}
		assert.NoError(t, ctx.Err(), "there is time left to send it")
	})
}

func TestLock_DeleteNeedsReasonInQuery(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"?reason=done":                        "",
		"?reason=a%20b%3C":                    "",
		"":                                    "reason: Required value",
		"?reason=":                            "reason: Required value",
		"?reason=%20":                         "reason: Required value",
		"?reason=a%0Ab":                       "reason: Invalid value: \"a b\": must be one line",
		"?reason=" + strings.Repeat("a", 257): "reason: Too long: may not be more than 256 bytes",
	} {
		e := newEnvironment()
		var err error
		handler := WithUnlockReason(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			_, err = e.unlock(req.Context(), "managed", nil)
		}))
		req := httptest.NewRequest(http.MethodDelete, "/lock"+query, nil)
		info := &request.RequestInfo{APIGroup: infrastructure.GroupName, Subresource: "lock", Verb: "delete"}
		handler.ServeHTTP(httptest.NewRecorder(), req.WithContext(request.WithRequestInfo(as("alice"), info)))
		if want == "" {
			require.NoError(t, err, query)
			assert.Len(t, e.operator.calls, 1)
			continue
		}
		assert.True(t, apierrors.IsInvalid(err), "%s: %v", query, err)
		assert.ErrorContains(t, err, want)
		assert.Empty(t, e.operator.calls)
	}
}

func TestTables_ShowAnswers(t *testing.T) {
	t.Parallel()
	e := newEnvironment()
	first, second := metav1.NewTime(time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)), metav1.NewTime(time.Date(2026, 11, 29, 12, 3, 0, 0, time.UTC))
	meta := metav1.ObjectMeta{Name: "node-1", Namespace: "team-a", UID: uid}
	for subresource, c := range map[string]struct {
		answer  runtime.Object
		columns []string
		rows    [][]any
	}{
		"log": {
			&infrastructure.MachineLog{ObjectMeta: meta, Events: []infrastructure.MetalEvent{{Event: "Installing", Message: "a", Time: &first}, {Event: "Phoned Home", Time: &second}}},
			[]string{"Time", "Event", "Message"},
			[][]any{{"2026-11-29T12:00:00Z", "Installing", "a"}, {"2026-11-29T12:03:00Z", "Phoned Home", ""}},
		},
		"power": {
			&infrastructure.MachinePower{ObjectMeta: meta, Status: infrastructure.MachinePowerStatus{State: infrastructure.PowerStateOff, ObservedTime: &first}},
			[]string{"Name", "State", "Observed", "BMC", "BIOS"},
			[][]any{{"node-1", "Off", "2026-11-29T12:00:00Z", "<none>", "<none>"}},
		},
		"lock": {
			&infrastructure.MachineLock{ObjectMeta: meta, Status: infrastructure.MachineLockStatus{Locked: true, Reason: "evidence"}},
			[]string{"Name", "Locked", "Reason"},
			[][]any{{"node-1", true, "evidence"}},
		},
	} {
		convertor := e.storage[subresource].(rest.TableConvertor)
		table, err := convertor.ConvertToTable(t.Context(), c.answer, &metav1.TableOptions{})
		require.NoError(t, err)
		var columns []string
		for _, column := range table.ColumnDefinitions {
			columns = append(columns, column.Name)
		}
		assert.Equal(t, c.columns, columns)
		var rows [][]any
		for _, row := range table.Rows {
			rows = append(rows, row.Cells)
			assert.Equal(t, "node-1", row.Object.Object.(metav1.Object).GetName())
		}
		assert.Equal(t, c.rows, rows)
		table, err = convertor.ConvertToTable(t.Context(), c.answer, &metav1.TableOptions{NoHeaders: true})
		require.NoError(t, err)
		assert.Empty(t, table.ColumnDefinitions)
	}
}
