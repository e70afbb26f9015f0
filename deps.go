//go:build !deps

// Package deps pins modules while the tree is being laid out.
package deps

import (
	_ "github.com/blang/semver/v4"
	_ "github.com/go-openapi/strfmt"
	_ "github.com/google/btree"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/google/uuid"
	_ "github.com/metal-stack/metal-go"
	_ "github.com/metal-stack/security"
	_ "github.com/metal-stack/metal-lib/pkg/tag"
	_ "github.com/prometheus/client_golang/prometheus"
	_ "github.com/spf13/cobra"
	_ "github.com/stretchr/testify/require"
	_ "go.etcd.io/bbolt"
	_ "go4.org/netipx"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/time/rate"
	_ "k8s.io/api/core/v1"
	_ "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	_ "k8s.io/apimachinery/pkg/api/apitesting/roundtrip"
	_ "k8s.io/apiserver/pkg/registry/generic/registry"
	_ "k8s.io/apiserver/pkg/server"
	_ "k8s.io/apiserver/pkg/server/options"
	_ "k8s.io/apiserver/pkg/storage/testing"
	_ "k8s.io/client-go/dynamic"
	_ "k8s.io/client-go/kubernetes"
	_ "k8s.io/client-go/metadata"
	_ "k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/api/v1"
	_ "k8s.io/utils/clock/testing"
	_ "sigs.k8s.io/controller-runtime"
	_ "sigs.k8s.io/randfill"
	_ "sigs.k8s.io/structured-merge-diff/v6/typed"
)
