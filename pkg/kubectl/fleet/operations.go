// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"metal-stack.io/infrastructure-apiserver/generated/clientset/versioned/scheme"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// fieldManager owns the fields of the objects that kubectl metal creates.
const fieldManager = "kubectl-metal"

// The subresources.
const (
	Power           = "power"
	Identify        = "identify"
	ConsolePassword = "consolepassword"
	Log             = "log"
	Reinstall       = "reinstall"
	Lock            = "lock"
)

func dryRunOf(dryRun bool) []string {
	if dryRun {
		return []string{metav1.DryRunAll}
	}
	return nil
}

// PowerState reads the power state that was reported last.
func (c *Client) PowerState(ctx context.Context, ref Reference) (*v1alpha4.MachinePower, error) {
	return read(ctx, c, ref, Power, &v1alpha4.MachinePower{})
}

// RequestPower asks for a power action.
func (c *Client) RequestPower(ctx context.Context, ref Reference, power *v1alpha4.MachinePower, dryRun bool) (*v1alpha4.MachinePower, error) {
	return post(ctx, c, ref, Power, power, &v1alpha4.MachinePower{}, dryRun)
}

// Identify switches the chassis LED.
func (c *Client) Identify(ctx context.Context, ref Reference, identify *v1alpha4.MachineIdentify) (*v1alpha4.MachineIdentify, error) {
	return post(ctx, c, ref, Identify, identify, &v1alpha4.MachineIdentify{}, false)
}

// ConsolePassword reads the password of the serial console.
func (c *Client) ConsolePassword(ctx context.Context, ref Reference, reason string) (string, error) {
	body := &v1alpha4.MachineConsolePassword{Spec: v1alpha4.MachineConsolePasswordSpec{Reason: reason}}
	answer, err := post(ctx, c, ref, ConsolePassword, body, &v1alpha4.MachineConsolePassword{}, false)
	if err != nil {
		return "", err
	}
	return answer.Status.Password, nil
}

// Log reads the provisioning events, the newest last.
func (c *Client) Log(ctx context.Context, ref Reference) (*v1alpha4.MachineLog, error) {
	return read(ctx, c, ref, Log, &v1alpha4.MachineLog{})
}

// Reinstall wipes the disk and installs an image.
func (c *Client) Reinstall(ctx context.Context, ref Reference, reinstall *v1alpha4.MachineReinstall, dryRun bool) (*v1alpha4.MachineReinstall, error) {
	return post(ctx, c, ref, Reinstall, reinstall, &v1alpha4.MachineReinstall{}, dryRun)
}

// LockState reads the lock.
func (c *Client) LockState(ctx context.Context, ref Reference) (*v1alpha4.MachineLock, error) {
	return read(ctx, c, ref, Lock, &v1alpha4.MachineLock{})
}

// Lock locks the machine in the metal-api.
func (c *Client) Lock(ctx context.Context, ref Reference, reason string) (*v1alpha4.MachineLock, error) {
	body := &v1alpha4.MachineLock{Spec: v1alpha4.MachineLockSpec{Reason: reason}}
	return post(ctx, c, ref, Lock, body, &v1alpha4.MachineLock{}, false)
}

// Unlock unlocks it, if the object has the uid.
func (c *Client) Unlock(ctx context.Context, ref Reference, uid types.UID, reason string) (*v1alpha4.MachineLock, error) {
	answer := &v1alpha4.MachineLock{}
	req := c.request("DELETE", ref, Lock).Param("reason", reason).Body(metav1.NewPreconditionDeleteOptions(string(uid)))
	return answer, c.explainChange(ctx, req.Do(ctx).Into(answer), ref, Lock)
}

func read[T runtime.Object](ctx context.Context, c *Client, ref Reference, subresource string, answer T) (T, error) {
	return answer, c.explain(ctx, c.request("GET", ref, subresource).Do(ctx).Into(answer), ref, subresource)
}

func post[T runtime.Object](ctx context.Context, c *Client, ref Reference, subresource string, body, answer T, dryRun bool) (T, error) {
	err := c.request("POST", ref, subresource).
		VersionedParams(&metav1.CreateOptions{DryRun: dryRunOf(dryRun)}, scheme.ParameterCodec).
		Body(body).Do(ctx).Into(answer)
	if dryRun {
		return answer, c.explain(ctx, err, ref, subresource)
	}
	return answer, c.explainChange(ctx, err, ref, subresource)
}

// request returns a request that client-go does not repeat, not even when the server says
// when it may be: the user decides, who sees the answer.
func (c *Client) request(verb string, ref Reference, subresource string) *rest.Request {
	return c.infrastructure.RESTClient().Verb(verb).Namespace(c.Namespace).
		Resource(ref.Kind.Resource).Name(ref.Name).SubResource(subresource).MaxRetries(0)
}
