// SPDX-License-Identifier: Apache-2.0

package metalapi

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/stretchr/testify/assert"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"
)

func TestRefusal_AnswersInTheFormOfTheMetalAPI(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err               error
		status            int
		says, retry, logs string
	}{
		"overloaded": {apierrors.NewTooManyRequests("slow down", 7), http.StatusTooManyRequests, "slow down", "8", ""},
		"no details": {&apierrors.StatusError{ErrStatus: apierrors.NewServiceUnavailable("away").ErrStatus}, http.StatusServiceUnavailable, "away", "", ""},
		"unknown":    {errors.New("the disk is full"), http.StatusInternalServerError, "internal error", "", "the disk is full"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var logged strings.Builder
			ctx := klog.NewContext(t.Context(), funcr.New(func(_, args string) { logged.WriteString(args) }, funcr.Options{}))
			answer := httptest.NewRecorder()
			refusal(ctx, c.err).ServeHTTP(answer, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
			assert.Equal(t, c.status, answer.Code)
			assert.Contains(t, answer.Body.String(), c.says)
			assert.Equal(t, c.retry, answer.Header().Get("Retry-After"))
			assert.Contains(t, logged.String(), c.logs)
		})
	}
}
