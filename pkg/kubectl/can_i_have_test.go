// SPDX-License-Identifier: Apache-2.0

package kubectl

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/fleet"
	"metal-stack.io/infrastructure-apiserver/pkg/kubectl/render"
)

const dryRunCreate = "POST metalstackmachines"

func exactly(quantity string) *v1alpha4.SizeRange {
	return &v1alpha4.SizeRange{Min: resource.MustParse(quantity), Max: resource.MustParse(quantity)}
}

func image(id, alias string, newest bool, features ...string) v1alpha4.MetalStackImage {
	return v1alpha4.MetalStackImage{ObjectMeta: metav1.ObjectMeta{Name: id}, Status: v1alpha4.MetalStackImageStatus{
		ImageID: id, Alias: alias, Newest: newest, Features: features, OS: "ubuntu",
	}}
}

// market offers two sizes in two partitions, to a project with a quota and a reservation.
func market(t *testing.T) *fakeServer {
	s := newFakeServer(t)
	s.on("GET "+group+"/metalstackpartitions", http.StatusOK, v1alpha4.MetalStackPartitionList{Items: []v1alpha4.MetalStackPartition{
		{ObjectMeta: metav1.ObjectMeta{Name: "fra-01"}, Status: v1alpha4.MetalStackPartitionStatus{Capacity: []v1alpha4.SizeCapacity{
			{Size: "c1-large-x86", Total: 12, Allocated: 9, Free: 3, Reserved: 3, Available: 0},
			{Size: "v1-small-x86", Total: 8, Allocated: 3, Free: 4, Reserved: 0, Available: 4, Faulty: 1},
		}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "muc-01"}, Status: v1alpha4.MetalStackPartitionStatus{Capacity: []v1alpha4.SizeCapacity{
			{Size: "c1-large-x86", Total: 2, Allocated: 2},
		}}},
	}})
	s.on("GET "+group+"/metalstacksizes", http.StatusOK, v1alpha4.MetalStackSizeList{Items: []v1alpha4.MetalStackSize{
		{ObjectMeta: metav1.ObjectMeta{Name: "c1-large-x86"}, Status: v1alpha4.MetalStackSizeStatus{Cores: exactly("32"), Memory: exactly("128Gi"), Storage: exactly("1Ti")}},
		{ObjectMeta: metav1.ObjectMeta{Name: "v1-small-x86"}, Status: v1alpha4.MetalStackSizeStatus{
			Cores: &v1alpha4.SizeRange{Min: resource.MustParse("1"), Max: resource.MustParse("4")}, Memory: exactly("2Gi"), Storage: exactly("20Gi"),
			Images: []v1alpha4.SizeImageConstraint{{OS: "ubuntu", Versions: ">= 24.04"}},
		}},
	}})
	expired := image("ubuntu-22.04.20240101", "ubuntu-22.04", true, "machine")
	expired.Status.ExpirationTime = at(time.Hour)
	s.on("GET "+group+"/metalstackimages", http.StatusOK, v1alpha4.MetalStackImageList{Items: []v1alpha4.MetalStackImage{
		image("ubuntu-24.04.20250701", "ubuntu-24.04", false, "machine"), image("ubuntu-24.04.20260101", "ubuntu-24.04", true, "machine"), expired,
		image("firewall-ubuntu-3.0.20260101", "firewall-ubuntu-3.0", true, "firewall"),
	}})
	s.project(8, 6, v1alpha4.SizeReservation{Size: "c1-large-x86", Partition: "fra-01", Amount: 2, Used: 1})
	return s
}

func (s *fakeServer) project(limit, used int64, reservations ...v1alpha4.SizeReservation) {
	s.on("GET metalstackprojects", http.StatusOK, v1alpha4.MetalStackProjectList{Items: []v1alpha4.MetalStackProject{
		{ObjectMeta: metav1.ObjectMeta{Name: "46f5b4ab-2d1a-4b9e-8b3f-6e2a0a6f2a10"}, Status: v1alpha4.MetalStackProjectStatus{
			Quotas: []v1alpha4.ProjectQuota{{Resource: "machines", Limit: &limit, Used: &used}}, Reservations: reservations,
		}},
	}})
}

func forbidden(resource, message string) metav1.Status {
	return apierrors.NewForbidden(schema.GroupResource{Group: infrastructure.GroupName, Resource: resource}, "", &rbacError{message}).Status()
}

type rbacError struct{ message string }

func (e *rbacError) Error() string { return e.message }

func TestOffers_ShowWhatTheProjectCanAllocate(t *testing.T) {
	t.Parallel()
	s := market(t)
	for width, file := range map[int]string{80: "offers-80", 0: "offers-pipe"} {
		o := s.runAt(terminal{style: render.Style{Width: width}}, "offers")
		require.Zero(t, o.code, o.stderr)
		golden(t, file, o.stdout)
		assertWidth(t, width, o.stdout)
	}
	o := s.run("offers", "--size=c1-large-x86", "--partition=fra-01", "-o", "json")
	var offers []offer
	require.NoError(t, json.Unmarshal([]byte(o.stdout), &offers), o.stdout)
	assert.Equal(t, []offer{{Size: "c1-large-x86", Partition: "fra-01", Available: 1, Free: 3, Total: 12, Cores: "32", Memory: "128Gi", Storage: "1Ti"}}, offers)
	assert.Contains(t, s.run("offers", "-o", "yaml").stdout, "- available: 1\n")
	assert.Contains(t, s.run("offers", "-o", "name").stderr, "must be json or yaml")
	assert.Contains(t, s.run("offers", "--size=none").stderr, "No machines found")
}

func TestAvailableTo_CountsTheProjectsOwnReservations(t *testing.T) {
	t.Parallel()
	capacity := v1alpha4.SizeCapacity{Size: "s", Total: 9, Free: 5, Reserved: 4, Available: 1}
	project := func(left ...int64) *v1alpha4.MetalStackProject {
		p := &v1alpha4.MetalStackProject{}
		for _, n := range left {
			p.Status.Reservations = append(p.Status.Reservations, v1alpha4.SizeReservation{Size: "s", Partition: "p", Amount: n + 1, Used: 1})
		}
		return p
	}
	all := func(project *v1alpha4.MetalStackProject, partition string, c v1alpha4.SizeCapacity) []int64 {
		least, most := availableTo(project, partition, c)
		return []int64{least, most}
	}
	assert.Equal(t, []int64{1, 5}, all(nil, "p", capacity), "some may be reserved for the project")
	assert.Equal(t, []int64{1, 1}, all(project(), "p", capacity))
	assert.Equal(t, []int64{3, 3}, all(project(2), "p", capacity))
	assert.Equal(t, []int64{5, 5}, all(project(4), "p", capacity))
	assert.Equal(t, []int64{1, 1}, all(project(2), "q", capacity))
	assert.Equal(t, []int64{5, 5}, all(project(2, 2), "p", capacity), "nothing is reserved for others")
}

// What is said to be available is available, as the server decides it.
func TestAvailableTo_IsNeverWrong(t *testing.T) {
	t.Parallel()
	for free := range int64(6) {
		for others := range int64(8) {
			for first := range int64(4) {
				for second := range int64(4) {
					left := max(free-others-first-second, 0)
					c := v1alpha4.SizeCapacity{Size: "s", Free: free, Available: left, Reserved: free - left}
					project := &v1alpha4.MetalStackProject{Status: v1alpha4.MetalStackProjectStatus{Reservations: []v1alpha4.SizeReservation{
						{Size: "s", Partition: "p", Amount: first}, {Size: "s", Partition: "p", Amount: second},
					}}}
					own := min(max(first, second), free)
					want := own + max(free-own-others, 0)
					least, most := availableTo(project, "p", c)
					require.True(t, least <= want && want <= most, "%d free, %d for others, %d and %d for the project: %d to %d, not %d", free, others, first, second, least, most, want)
					require.True(t, least == most || first > 0 && second > 0)
				}
			}
		}
	}
}

func TestCanIHave_AsksTheServerAndSaysWhyNot(t *testing.T) {
	t.Parallel()
	s := market(t)
	s.on(dryRunCreate, http.StatusCreated, warnedAnswer{worker("can-i-have-x"), []string{
		infrastructure.AllocationWouldBeRefused + "no machine available: 0 of 12 c1-large-x86 in fra-01 are available (free: 3, reserved for other projects: 3)",
		infrastructure.AllocationNote + "the networks are those of the cluster, which are not known: set spec.networks",
	}})
	o := s.run("can-i-have", "c1-large-x86", "--partition=fra-01", "--image=ubuntu-24.04", "--network=net-a")
	assert.Equal(t, 1, o.code)
	golden(t, "can-i-have-no", o.stdout)
	assert.Equal(t, "Warning: about the allocation: the networks are those of the cluster, which are not known: set spec.networks\n", o.stderr)
	made := s.made()
	require.Len(t, made, 1)
	assert.Equal(t, "dryRun=All&fieldManager=kubectl-metal", made[0].Query)
	assert.Equal(t, map[string]any{"image": "ubuntu-24.04", "machineType": "c1-large-x86", "partition": "fra-01", "networks": []any{"net-a"}}, made[0].Body["spec"])

	s.on(dryRunCreate, http.StatusCreated, worker("can-i-have-x"))
	o = s.run("can-i-have", "c1-large-x86", "--partition=fra-01", "--image=ubuntu-24.04", "--network=net-a")
	assert.Zero(t, o.code, o.stderr)
	golden(t, "can-i-have-yes", o.stdout)
	assert.Empty(t, o.stderr)
}

func TestCanIHave_RefusalOfTheDryRunIsANo(t *testing.T) {
	t.Parallel()
	s := market(t)
	ask := func() (outcome, reply) {
		o := s.run("can-i-have", "v1-small-x86", "--partition=fra-01", "--image=ubuntu-24.04", "-o", "json")
		var replies []reply
		require.NoError(t, json.Unmarshal([]byte(o.stdout), &replies), o.stdout+o.stderr)
		require.Len(t, replies, 1)
		return o, replies[0]
	}
	invalid := apierrors.NewInvalid(infrastructure.Kind("MetalStackMachine"), "x", field.ErrorList{field.Invalid(field.NewPath("spec", "networks").Index(0), "nope", "not found")})
	for _, c := range []struct {
		status metav1.Status
		want   string
		code   int
	}{
		{invalid.Status(), `spec.networks[0]: Invalid value: "nope": not found`, 1},
		{forbidden("metalstackmachines", "exceeded quota: machines"), "exceeded quota: machines", 1},
		{forbidden("metalstackmachines", "ValidatingAdmissionPolicy 'no-small' denied request"), "no-small", 1},
		{apierrors.NewServiceUnavailable("metal-api is away").Status(), "metal-api is away", 2},
	} {
		s.on(dryRunCreate, int(c.status.Code), c.status)
		o, r := ask()
		assert.Equal(t, c.code, o.code, c.want)
		assert.False(t, r.Allowed)
		all := append(r.Reasons, r.Unknown...)
		require.Len(t, all, 1)
		assert.Contains(t, all[0], c.want)
	}
	s.on(dryRunCreate, http.StatusCreated, warnedAnswer{worker("can-i-have-x"), []string{infrastructure.AllocationUnknown + "the metal-api cannot be reached"}})
	o, r := ask()
	assert.Equal(t, 2, o.code, "what cannot be known is no yes")
	assert.False(t, r.Allowed)
	assert.Regexp(t, "(?m) unknown$", s.run("can-i-have", "v1-small-x86", "--partition=fra-01", "--image=ubuntu-24.04").stdout)
}

// The server checks for one machine. That several are not available is said once.
func TestCanIHave_SaysOnceThatMachinesAreMissing(t *testing.T) {
	t.Parallel()
	s := market(t)
	ask := func() string {
		return s.run("can-i-have", "c1-large-x86", "--partition=fra-01", "--image=ubuntu-24.04", "--count=2").stdout
	}
	s.on(dryRunCreate, http.StatusCreated, worker("can-i-have-x"))
	assert.Contains(t, ask(), "no 2 machines available: 1 of 12 c1-large-x86 in fra-01 are available (free: 3, reserved for other projects: 2)")
	s.on(dryRunCreate, http.StatusCreated, warnedAnswer{worker("can-i-have-x"), []string{
		infrastructure.AllocationWouldBeRefused + "no machine available: 0 of 12 c1-large-x86 in fra-01 are available (free: 3, reserved for other projects: 3)",
	}})
	out := ask()
	assert.Equal(t, 1, strings.Count(out, "available ("), out)
}

func TestCanIHave_ViewerIsAnsweredFromWhatCanBeRead(t *testing.T) {
	t.Parallel()
	s := market(t)
	s.on(dryRunCreate, http.StatusForbidden, forbidden("metalstackmachines", `User "viewer" cannot create resource "metalstackmachines"`))
	o := s.run("can-i-have", "c1-large-x86", "--image=ubuntu-22.04")
	assert.Zero(t, o.code, o.stderr)
	golden(t, "can-i-have-viewer", o.stdout)
	assert.Contains(t, o.stderr, "image ubuntu-22.04.20240101 expired at 2026-11-29T11:00:00Z")
	assert.Contains(t, o.stderr, "that needs the right to create a machine")

	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"c1-large-x86", "--count=2"}, "no 2 machines available: 1 of 12 c1-large-x86 in fra-01 are available (free: 3, reserved for other projects: 2)"},
		{[]string{"huge"}, `there is no size "huge"`},
		{[]string{"v1-small-x86", "--partition=nowhere"}, `there is no partition "nowhere"`},
		{[]string{"v1-small-x86", "--image=nope"}, `there is no image "nope"`},
		{[]string{"v1-small-x86", "--image=firewall-ubuntu-3.0"}, "is not for a machine: its features are firewall"},
	} {
		o := s.run(append([]string{"can-i-have"}, c.args...)...)
		assert.Equal(t, 1, o.code, c.args)
		assert.Contains(t, o.stdout, c.want)
	}
	old := s.run("can-i-have", "v1-small-x86", "--partition=fra-01", "--image=ubuntu-22.04")
	assert.Equal(t, 1, old.code)
	assert.Contains(t, old.stdout, "size v1-small-x86 allows no image ubuntu-22.04.20240101: its versions of ubuntu must be >= 24.04")
	assert.NotContains(t, s.run("can-i-have", "v1-small-x86", "--count=2").stderr, "quota")
	o = s.run("can-i-have", "v1-small-x86", "--count=3")
	assert.Zero(t, o.code)
	assert.Contains(t, o.stderr, "the project has 6 of the 8 machines and firewalls of its quota: metal-stack may refuse 3 more")
	s.on("GET metalstackprojects", http.StatusForbidden, forbidden("metalstackprojects", "no"))
	o = s.run("can-i-have", "c1-large-x86", "--partition=fra-01")
	assert.Equal(t, 2, o.code, "some may be reserved for the project")
	assert.Contains(t, o.stdout, "0 to 3 of 12 c1-large-x86 in fra-01 are available to the project")
	assert.Contains(t, o.stderr, "they need the ClusterRole view")
}

func TestCanIHave_ExplainsUsageAndMissingRights(t *testing.T) {
	t.Parallel()
	s := market(t)
	for want, args := range map[string][]string{
		"expected one SIZE":                {},
		`--for="x": must be machine`:       {"v1-small-x86", "--for=x"},
		"--count=0: must be at least 1":    {"v1-small-x86", "--count=0"},
		`--output="name": must be json or`: {"v1-small-x86", "-o", "name"},
	} {
		o := s.run(append([]string{"can-i-have"}, args...)...)
		assert.Equal(t, 1, o.code)
		assert.Contains(t, o.stderr, want)
	}
	s.on("GET "+group+"/metalstackpartitions", http.StatusForbidden, forbidden("metalstackpartitions", "no"))
	assert.Contains(t, s.run("can-i-have", "v1-small-x86").stderr, "ClusterRole that grants it: metalstack-catalogue-viewer.")
	s.on("GET "+group+"/metalstackpartitions", http.StatusNotFound, apierrors.NewNotFound(schema.GroupResource{Resource: "x"}, "").Status())
	assert.Contains(t, s.run("offers").stderr, "it is older than this plugin")
}

func TestCanIHave_CompletesSizesPartitionsAndImages(t *testing.T) {
	t.Parallel()
	s := market(t)
	assert.Equal(t, []string{"c1-large-x86", "v1-small-x86"}, s.complete("can-i-have", ""))
	assert.Equal(t, []string{"muc-01"}, s.complete("can-i-have", "v1-small-x86", "--partition", "m"))
	assert.Equal(t, []string{"ubuntu-22.04", "ubuntu-24.04"}, s.complete("can-i-have", "v1-small-x86", "--image", "u"))
	assert.Equal(t, []string{"machine", "firewall"}, s.complete("can-i-have", "v1-small-x86", "--for", ""))
}

func TestCanIHave_AsksForAFirewall(t *testing.T) {
	t.Parallel()
	s := market(t)
	s.on("POST "+fleet.Firewall.Resource, http.StatusCreated, firewall("can-i-have-x"))
	o := s.run("can-i-have", "v1-small-x86", "--partition=fra-01", "--image=firewall-ubuntu-3.0", "--for=firewall")
	assert.Zero(t, o.code, o.stdout+o.stderr)
	require.Len(t, s.made(), 1)
}
