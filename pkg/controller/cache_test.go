// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

func TestNewCache_NeedsNoServedAPI(t *testing.T) {
	t.Parallel()
	scheme, err := NewScheme()
	require.NoError(t, err)
	_, err = NewCache(&rest.Config{Host: "127.0.0.1:1"}, cache.Options{
		Scheme: scheme, Mapper: meta.NewDefaultRESTMapper(nil), ByObject: CacheByObject(),
	})
	require.NoError(t, err)
}
