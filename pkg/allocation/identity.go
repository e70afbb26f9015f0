// SPDX-License-Identifier: Apache-2.0

package allocation

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"metal-stack.io/infrastructure-apiserver/pkg/metal"
)

// identity is what metal carries of the object that it was allocated for.
type identity struct {
	uid             types.UID
	namespace, name string
	// kind is set for what objects claim for themselves: networkKind or ipKind. Objects of
	// other kinds may have the same name.
	kind string
	// cluster is the cluster id of the MetalStackCluster, if there is one.
	cluster string
}

// identityLabels returns the identity as labels of a network.
func (p *Protocol) identityLabels(id identity) map[string]string {
	labels := map[string]string{
		metal.TagUID:               LabelValue(string(id.uid)),
		metal.TagNamespace:         LabelValue(id.namespace),
		metal.TagName:              LabelValue(id.name),
		metal.TagManagementCluster: LabelValue(p.opts.ManagementCluster),
	}
	if id.kind != "" {
		labels[metal.TagKind] = id.kind
	}
	if id.cluster != "" {
		labels[metal.TagCluster] = LabelValue(id.cluster)
	}
	return labels
}

// identityTags returns the identity as tags of a machine or an address.
func (p *Protocol) identityTags(id identity) []string {
	labels := p.identityLabels(id)
	tags := make([]string, 0, len(labels))
	for _, key := range []string{metal.TagUID, metal.TagNamespace, metal.TagName, metal.TagKind, metal.TagManagementCluster, metal.TagCluster} {
		if value, ok := labels[key]; ok {
			tags = append(tags, metal.Tag(key, value))
		}
	}
	return tags
}

// isReservedTag reports whether only the server may write a tag: with it, the metal
// of one object could be passed off as another's.
func isReservedTag(tag string) bool {
	key, _, _ := strings.Cut(tag, "=")
	return strings.HasPrefix(key, "infrastructure.cluster.x-k8s.io/") || key == metal.TagCluster || key == metal.TagMachine
}

// hashLength is the number of characters of a hash that stands for what was
// cut off a name: 40 bits.
const hashLength = 10

var (
	invalidInLabels    = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)
	invalidInHostnames = regexp.MustCompile(`[^a-z0-9-]+`)
)

// uuidLength is the length of a uid in its usual form, which has neither braces nor a prefix.
const uuidLength = 36

// LabelValue returns s if it is a valid value of a Kubernetes label. Otherwise
// it returns what is left of s without the characters that are not allowed,
// cut to 52 characters, a dash and the first ten hexadecimal digits of the
// SHA-256 of s. metal-ccm copies tags to the labels of Nodes, where one invalid
// value would spoil all of them.
func LabelValue(s string) string {
	// Every pass over all records does this for each, and most are uids.
	if len(s) == uuidLength && uuid.Validate(s) == nil || len(validation.IsValidLabelValue(s)) == 0 {
		return s
	}
	return withHash(invalidInLabels.ReplaceAllString(s, "-"), s)
}

// hostname returns name if it is a valid host name, which has no dots and at
// most 63 characters. Otherwise it is made one as by LabelValue; dots become
// dashes.
func hostname(name string) string {
	if len(validation.IsDNS1123Label(name)) == 0 {
		return name
	}
	return withHash(invalidInHostnames.ReplaceAllString(strings.ToLower(name), "-"), name)
}

func withHash(readable, full string) string {
	sum := sha256.Sum256([]byte(full))
	hash := hex.EncodeToString(sum[:])[:hashLength]
	readable = readable[:min(len(readable), validation.LabelValueMaxLength-hashLength-1)]
	readable = strings.Trim(readable, "-_.")
	if readable == "" {
		return hash
	}
	return readable + "-" + hash
}
