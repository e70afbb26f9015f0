// SPDX-License-Identifier: Apache-2.0

package images_test

import (
	"archive/tar"
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/hack/release/images"
	"metal-stack.io/infrastructure-apiserver/hack/release/rootfs"
)

var (
	platformFlag = flag.String("images.platform", "linux/"+runtime.GOARCH, "platform whose images are run")
	emulatorFlag = flag.String("images.emulator", "", "path of a static emulator that runs them, such as qemu-aarch64-static")
)

// limit is how long a program may take to do what is expected of it: emulated, it is slow.
const limit = 3 * time.Minute

// layouts is what `release images` wrote for the platform: built without the race detector,
// with which compression takes minutes.
var layouts = struct {
	sync.Once
	directory string
	err       error
}{}

func TestMain(m *testing.M) {
	code := m.Run()
	if layouts.directory != "" {
		_ = os.RemoveAll(layouts.directory)
	}
	os.Exit(code)
}

// buildLayouts builds the images of all programs once, with the command that makes releases.
func buildLayouts() {
	if layouts.directory, layouts.err = os.MkdirTemp("", "images-*"); layouts.err != nil {
		return
	}
	program := filepath.Join(layouts.directory, "release")
	for _, line := range [][]string{
		{"go", "build", "-trimpath", "-o", program, ".."},
		{program, "images", "--source", filepath.Join("..", "..", ".."), "--output", layouts.directory,
			"--tag", stamp.Version, "--commit", stamp.Commit, "--platform", *platformFlag},
	} {
		if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
			layouts.err = fmt.Errorf("%s: %w: %s", strings.Join(line, " "), err, out)
			return
		}
	}
}

func buildImage(t *testing.T, program images.Program) v1.Image {
	t.Helper()
	layouts.Do(buildLayouts)
	require.NoError(t, layouts.err)
	index, err := images.Read(layouts.directory, program)
	require.NoError(t, err)
	image := imagesOf(t, index)[*platformFlag]
	require.NotNil(t, image)
	return image
}

// A container is an image in a directory, in which its program runs as the image
// says: as its user, without any file beside those of the image, none of
// which it may write.
type container struct {
	t        *testing.T
	root     string
	config   v1.Config
	emulator bool
}

// unpack unpacks an image. Changes are made to its files before they cannot be changed any more.
func unpack(t *testing.T, name string, changes ...func(root string)) *container {
	t.Helper()
	program := images.Programs()[slices.IndexFunc(images.Programs(), func(p images.Program) bool { return p.Name == name })]
	image := buildImage(t, program)
	config, err := image.ConfigFile()
	require.NoError(t, err)
	c := &container{t: t, root: filepath.Join(t.TempDir(), "root"), config: config.Config, emulator: *emulatorFlag != ""}
	require.NoError(t, os.Mkdir(c.root, 0o755))
	content := mutate.Extract(image)
	defer content.Close()
	for reader := tar.NewReader(content); ; {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.True(t, filepath.IsLocal(header.Name), header.Name)
		path := filepath.Join(c.root, header.Name)
		if header.Typeflag == tar.TypeDir {
			require.NoError(t, os.Mkdir(path, 0o755))
			continue
		}
		text, err := io.ReadAll(reader)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, text, header.FileInfo().Mode().Perm()))
	}
	if c.emulator {
		text, err := os.ReadFile(*emulatorFlag)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(c.root, "emulator"), text, 0o755))
	}
	for _, change := range changes {
		change(c.root)
	}
	c.protect()
	return c
}

// protect takes the permission to write from all files and directories: without root's
// account, they belong to the very user that the program runs as.
func (c *container) protect() {
	c.t.Helper()
	require.NoError(c.t, filepath.WalkDir(c.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return os.Chmod(path, info.Mode().Perm()&^0o222)
	}))
	c.t.Cleanup(func() { // so that it can be removed
		_ = filepath.WalkDir(c.root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return err
			}
			return os.Chmod(path, 0o700)
		})
	})
}

// mount has a directory that the program may write, as a volume is.
func (c *container) mount(path string) {
	c.t.Helper()
	path = filepath.Join(c.root, path)
	require.NoError(c.t, os.Chmod(c.root, 0o755))
	require.NoError(c.t, os.Mkdir(path, 0o700))
	require.NoError(c.t, os.Chmod(c.root, 0o555))
	if os.Getuid() == 0 {
		uid, gid := c.user()
		require.NoError(c.t, os.Chown(path, uid, gid))
	}
}

// user returns the numbers of the image's user and group.
func (c *container) user() (uid, gid int) {
	c.t.Helper()
	first, second, _ := strings.Cut(c.config.User, ":")
	uid, err := strconv.Atoi(first)
	require.NoError(c.t, err)
	gid, err = strconv.Atoi(second)
	require.NoError(c.t, err)
	return uid, gid
}

func (c *container) command(env []string, args ...string) *exec.Cmd {
	c.t.Helper()
	line := append(slices.Clone(c.config.Entrypoint), args...)
	if c.emulator {
		line = append([]string{"/emulator"}, line...)
	}
	uid, gid := c.user()
	attr := &syscall.SysProcAttr{Chroot: c.root, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	} else {
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: os.Getgid(), Size: 1}}
	}
	return &exec.Cmd{Path: line[0], Args: line, Dir: c.config.WorkingDir, Env: append(slices.Clone(c.config.Env), env...), SysProcAttr: attr}
}

// run runs the program to its end, and returns what it printed.
func (c *container) run(args ...string) (string, error) {
	c.t.Helper()
	command := c.command(nil, args...)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err := command.Run()
	c.skipIfNotPermitted(err)
	return out.String(), err
}

// start runs the program to the end of the test, and returns a function that reads what it printed.
func (c *container) start(env []string, args ...string) func() string {
	c.t.Helper()
	output, err := os.Create(filepath.Join(filepath.Dir(c.root), "output"))
	require.NoError(c.t, err)
	defer output.Close()
	command := c.command(env, args...)
	command.Stdout, command.Stderr = output, output
	err = command.Start()
	c.skipIfNotPermitted(err)
	require.NoError(c.t, err)
	c.t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	return func() string {
		text, err := os.ReadFile(output.Name())
		require.NoError(c.t, err)
		return string(text)
	}
}

func (c *container) skipIfNotPermitted(err error) {
	c.t.Helper()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || (os.Getuid() != 0 && errors.Is(err, syscall.EACCES)) {
		c.t.Skipf("images cannot be run: needs root or user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0): %v", err)
	}
}

func TestImage_SaysItsVersion(t *testing.T) {
	t.Parallel()
	for _, program := range images.Programs() {
		out, err := unpack(t, program.Name).run("--version")
		require.NoError(t, err, out)
		assert.Equal(t, fmt.Sprintf("%s %s (commit %s, %s)\n", program.Name, stamp.Version, stamp.Commit[:12], runtime.Version()), out)
	}
}

// The server has no directory to write but its data: the rest of the image is read-only. It reaches the
// metal-api over TLS, whose authority is in the image's bundle.
func TestImage_ServesStandalone(t *testing.T) {
	t.Parallel()
	metalAPI, refused := startSimulator(t)
	server := unpack(t, "metalstack-apiserver", func(root string) {
		bundle, err := os.OpenFile(filepath.Join(root, rootfs.Certificates), os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		defer bundle.Close()
		require.NoError(t, pem.Encode(bundle, &pem.Block{Type: "CERTIFICATE", Bytes: metalAPI.Certificate().Raw}))
	})
	address, output := startServer(server, metalAPI.URL)
	for _, check := range []string{"/readyz", "/livez"} {
		eventually(t, output, func() error { return get("https://" + address + check) })
	}
	assert.Zero(t, refused.Load())
	entries, err := os.ReadDir(filepath.Join(server.root, "data"))
	require.NoError(t, err)
	require.NotEmpty(t, entries, "records are in the volume")
	info, err := entries[0].Info()
	require.NoError(t, err)
	if owner, ok := info.Sys().(*syscall.Stat_t); os.Getuid() == 0 {
		require.True(t, ok)
		assert.Equal(t, uint32(rootfs.User), owner.Uid, "who the program runs as")
	}
}

func TestImage_TrustsNoOtherAuthority(t *testing.T) {
	t.Parallel()
	metalAPI, refused := startSimulator(t)
	address, output := startServer(unpack(t, "metalstack-apiserver"), metalAPI.URL)
	eventually(t, output, func() error {
		if refused.Load() < 3 {
			return errors.New("the server did not refuse the metal-api's certificate")
		}
		return nil
	})
	eventually(t, output, func() error { return get("https://" + address + "/livez") })
	assert.ErrorContains(t, get("https://"+address+"/readyz"), "500")
}

// startSimulator starts the simulator from its image, behind a proxy that has TLS and counts
// the clients that do not trust its certificate.
func startSimulator(t *testing.T) (proxy *httptest.Server, refused *atomic.Int32) {
	t.Helper()
	address := freeAddress(t)
	output := unpack(t, "metal-api-simulator").start(nil, "--listen", address, "--admin-listen", "", "--machines", "4")
	eventually(t, output, func() error { return get("http://" + address + "/metal/v1/health") })
	target, err := url.Parse("http://" + address)
	require.NoError(t, err)
	refused = &atomic.Int32{}
	proxy = httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(target))
	proxy.Config.ErrorLog = log.New(handshakes{refused}, "", 0)
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	return proxy, refused
}

// handshakes counts the lines of a server's log that say that a client refused a certificate.
type handshakes struct{ refused *atomic.Int32 }

func (h handshakes) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("tls: bad certificate")) {
		h.refused.Add(1)
	}
	return len(line), nil
}

func startServer(server *container, metalAPI string) (address string, output func() string) {
	server.t.Helper()
	server.mount("data")
	address = freeAddress(server.t)
	host, port, err := net.SplitHostPort(address)
	require.NoError(server.t, err)
	return address, server.start([]string{"METAL_API_HMAC=metal-edit"},
		"--standalone", "--data-dir=/data", "--kubeconfig-out=/data/kubeconfig",
		"--bind-address="+host, "--secure-port="+port, "--metal-api-url="+metalAPI+"/metal", "--metal-api-hmac-type=Metal-Edit")
}

// freeAddress returns an address of the loopback interface that is not listened on at the moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

func get(address string) error {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	res, err := client.Get(address)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", address, res.Status)
	}
	return nil
}

// eventually waits until a condition holds.
func eventually(t *testing.T, output func() string, condition func() error) {
	t.Helper()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(limit); ; <-ticker.C {
		err := condition()
		if err == nil {
			return
		}
		require.True(t, time.Now().Before(deadline), "after %s: %v\n%s", limit, err, output())
	}
}
