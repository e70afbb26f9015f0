// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"runtime/debug"
	"strings"

	apiversion "k8s.io/apimachinery/pkg/version"
	basecompatibility "k8s.io/component-base/compatibility"
	baseversion "k8s.io/component-base/version"

	"metal-stack.io/infrastructure-apiserver/pkg/version"
)

// servedVersion is what /version answers: the Kubernetes version that the API
// machinery is of, since that is what clients compare themselves with, with
// this project's version as its build metadata.
type servedVersion struct {
	basecompatibility.EffectiveVersion
}

func newServedVersion() servedVersion {
	return servedVersion{basecompatibility.NewEffectiveVersionFromString(baseversion.DefaultKubeBinaryVersion, "", "")}
}

// Info implements EffectiveVersion.
func (v servedVersion) Info() *apiversion.Info {
	info := v.EffectiveVersion.Info()
	project := version.Get()
	// Build metadata has no second plus.
	info.GitVersion = kubernetesVersion() + "+metalstack." + strings.ReplaceAll(project.Version, "+", ".")
	info.GitCommit, info.GitTreeState = project.Commit, "clean"
	if project.Modified {
		info.GitTreeState = "dirty"
	}
	if project.CommitTime != "" {
		info.BuildDate = project.CommitTime
	}
	return info
}

// kubernetesVersion is the version of Kubernetes that k8s.io/apiserver is part
// of: v0.36.3 is that of v1.36.3.
func kubernetesVersion() string {
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			if minor, found := strings.CutPrefix(module.Version, "v0."); found && module.Path == "k8s.io/apiserver" {
				return "v1." + minor
			}
		}
	}
	return "v" + baseversion.DefaultKubeBinaryVersion + ".0"
}
