// SPDX-License-Identifier: Apache-2.0

package images

import (
	"encoding/json"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	specs "github.com/opencontainers/image-spec/specs-go/v1"
)

// portableIndex is an index in the JSON that skopeo and podman write: some of their versions,
// such as skopeo 1.9, write an index anew when they copy it, and the copy must have the digest
// by which manifests name the images.
type portableIndex struct {
	imageIndex
	raw []byte
}

// imageIndex has another name than one of its methods.
type imageIndex = v1.ImageIndex

func newPortableIndex(index v1.ImageIndex) (*portableIndex, error) {
	raw, err := index.RawManifest()
	if err != nil {
		return nil, err
	}
	var manifest specs.Index
	if err := json.Unmarshal(raw, &manifest); err != nil {
		return nil, err
	}
	for i := range manifest.Manifests {
		// Those versions drop it, and it says no more than the image itself.
		manifest.Manifests[i].ArtifactType = ""
	}
	raw, err = json.Marshal(manifest)
	return &portableIndex{imageIndex: index, raw: raw}, err
}

// RawManifest returns the JSON.
func (p *portableIndex) RawManifest() ([]byte, error) { return p.raw, nil }

// Digest returns that of the JSON.
func (p *portableIndex) Digest() (v1.Hash, error) { return partial.Digest(p) }

// Size returns that of the JSON.
func (p *portableIndex) Size() (int64, error) { return partial.Size(p) }

// IndexManifest returns what the JSON says.
func (p *portableIndex) IndexManifest() (*v1.IndexManifest, error) {
	manifest := &v1.IndexManifest{}
	return manifest, json.Unmarshal(p.raw, manifest)
}
