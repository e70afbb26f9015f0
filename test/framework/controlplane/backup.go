// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"os"
	"path/filepath"
	"testing"
)

// Snapshot is a backup of etcd.
type Snapshot struct{ dir string }

// SnapshotEtcd backs up etcd, which is away for a moment.
func (c *ControlPlane) SnapshotEtcd(t testing.TB) Snapshot {
	t.Helper()
	c.mustBeOwn(t)
	dir, err := os.MkdirTemp(c.dir, "snapshot-")
	if err != nil {
		t.Fatal(err)
	}
	// At once: a gentle end waits seconds for its clients, and what etcd
	// acknowledged it has written, to the page cache at least.
	c.etcd.kill()
	if err := os.CopyFS(filepath.Join(dir, etcdData), os.DirFS(filepath.Join(c.dir, etcdData))); err != nil {
		t.Fatal(err)
	}
	if err := c.startEtcd(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.apiServer.ready(t.Context(), c.readyz); err != nil {
		t.Fatal(err)
	}
	return Snapshot{dir: dir}
}

// RestoreEtcd puts a backup in etcd's place, and starts the kube-apiserver and
// the kube-controller-manager anew, whose caches would be wrong; so says
// etcd's manual. The kube-apiserver keeps its address and its certificates.
func (c *ControlPlane) RestoreEtcd(t testing.TB, s Snapshot) {
	t.Helper()
	c.mustBeOwn(t)
	for _, p := range []*process{c.controllerMgr, c.apiServer, c.etcd} {
		p.kill()
	}
	data := filepath.Join(c.dir, etcdData)
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(data, os.DirFS(filepath.Join(s.dir, etcdData))); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if err := c.startEtcd(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.startAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.startControllerManager(ctx); err != nil {
		t.Fatal(err)
	}
}

func (c *ControlPlane) mustBeOwn(t testing.TB) {
	t.Helper()
	if c.shared {
		t.Fatal("a shared control plane is not restarted: use Start instead of StartShared")
	}
}
