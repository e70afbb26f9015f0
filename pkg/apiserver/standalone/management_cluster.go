// SPDX-License-Identifier: Apache-2.0

package standalone

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

// ManagementCluster returns the ID of this management cluster, which in a cluster is the
// uid of the namespace kube-system. It is generated once, and stored in dir: with
// another one, the server would not recognize its own metal.
func ManagementCluster(dir string) (string, error) {
	path := filepath.Join(dir, "management-cluster")
	content, err := os.ReadFile(path)
	if err == nil {
		id, err := uuid.Parse(strings.TrimSpace(string(content)))
		return id.String(), err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	id := uuid.NewString()
	return id, writePrivate(path, []byte(id+"\n"))
}
