package projection

import (
	"k8s.io/apimachinery/pkg/runtime"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// recordsOnly joins records that have no metal half.
type recordsOnly struct{}

func (recordsOnly) Refs(runtime.Object) []metal.Ref                    { return nil }
func (recordsOnly) Project(record, _ runtime.Object) runtime.Object    { return record }
func (recordsOnly) Strip(runtime.Object)                               {}
func (recordsOnly) Discovered(metal.Ref) (runtime.Object, []metal.Ref) { return nil, nil }
