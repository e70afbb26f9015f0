// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// LoadOrCreateManagementClusterID returns the ID of this management cluster, which in a
// cluster is the uid of the namespace kube-system. It is generated once, and stored
// in dir: with another one, the server would not recognize its own metal.
func LoadOrCreateManagementClusterID(dir string) (string, error) {
	path := filepath.Join(dir, "management-cluster")
	content, err := os.ReadFile(path)
	if err == nil {
		id, err := uuid.Parse(strings.TrimSpace(string(content)))
		if err != nil {
			return "", fmt.Errorf("invalid management cluster ID in %s: %w: restore the file; with another ID, the server does not recognize its own metal", path, err)
		}
		return id.String(), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("failed to read the management cluster ID: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	id := uuid.NewString()
	return id, writePrivate(path, []byte(id+"\n"))
}
