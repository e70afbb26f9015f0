// SPDX-License-Identifier: Apache-2.0

package logging

import (
	"bytes"
	"flag"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/klog/v2"
)

func TestValidate_RefusesVerbosityWithBodies(t *testing.T) {
	t.Parallel()
	c := logsapi.NewLoggingConfiguration()
	c.Verbosity = MaxVerbosity
	c.VModule = logsapi.VModuleConfiguration{{FilePattern: "request", Verbosity: MaxVerbosity}}
	require.Empty(t, Validate(c))

	c.Verbosity, c.VModule[0].Verbosity = MaxVerbosity+1, MaxVerbosity+3
	err := utilerrors.NewAggregate(Validate(c))
	require.ErrorContains(t, err, "--v must be at most 7, got 8: from 8 on, bodies of requests are logged")
	require.ErrorContains(t, err, "--vmodule=request must be at most 7, got 10")
}

// TestMaxVerbosity_LogsNoBody holds the number to the client-go in use. It is not parallel: the
// logger is that of the process.
func TestMaxVerbosity_LogsNoBody(t *testing.T) {
	const secret = "c2VjcmV0IHVzZXIgZGF0YQ=="
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"apiVersion":"v1","kind":"Secret","data":{"token":"` + secret + `"}}`))
	}))
	defer api.Close()
	client := kubernetes.NewForConfigOrDie(&rest.Config{Host: api.URL})
	logged := func(verbosity int) string {
		state := klog.CaptureState()
		defer state.Restore()
		flags := flag.NewFlagSet("", flag.PanicOnError)
		klog.InitFlags(flags)
		require.NoError(t, flags.Set("v", strconv.Itoa(verbosity)))
		require.NoError(t, flags.Set("logtostderr", "false"))
		var out bytes.Buffer
		klog.SetOutput(&out)
		_, err := client.CoreV1().Secrets("team-a").Update(t.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "token"}, StringData: map[string]string{"token": secret},
		}, metav1.UpdateOptions{})
		require.NoError(t, err)
		klog.Flush()
		return out.String()
	}
	assert.NotContains(t, logged(MaxVerbosity), secret)
	assert.Contains(t, logged(MaxVerbosity+1), secret, "a higher verbosity would do")
}
