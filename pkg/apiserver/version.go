package apiserver

import (
	"runtime/debug"
	"strings"

	apiversion "k8s.io/apimachinery/pkg/version"
	basecompatibility "k8s.io/component-base/compatibility"
	baseversion "k8s.io/component-base/version"
)

// servedVersion is what /version answers: the Kubernetes version that the API
// machinery is of, since that is what clients compare themselves with, with
// this program's own version behind a plus sign.
type servedVersion struct {
	basecompatibility.EffectiveVersion
}

func newServedVersion() servedVersion {
	return servedVersion{basecompatibility.NewEffectiveVersionFromString(baseversion.DefaultKubeBinaryVersion, "", "")}
}

// Info implements EffectiveVersion.
func (v servedVersion) Info() *apiversion.Info {
	info := v.EffectiveVersion.Info()
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return info
	}
	kubernetes, own := "v"+baseversion.DefaultKubeBinaryVersion+".0", "unversioned"
	for _, module := range build.Deps {
		// k8s.io/apiserver v0.36.3 is that of Kubernetes v1.36.3.
		if minor, found := strings.CutPrefix(module.Version, "v0."); found && module.Path == "k8s.io/apiserver" {
			kubernetes = "v1." + minor
		}
	}
	for _, setting := range build.Settings {
		switch setting.Key {
		case "vcs.revision":
			info.GitCommit, own = setting.Value, setting.Value[:min(len(setting.Value), 12)]
		case "vcs.time":
			info.BuildDate = setting.Value
		case "vcs.modified":
			info.GitTreeState = map[string]string{"true": "dirty", "false": "clean"}[setting.Value]
		}
	}
	info.GitVersion = kubernetes + "+metalstack." + own
	return info
}
