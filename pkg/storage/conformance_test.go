// SPDX-License-Identifier: Apache-2.0

package storage

import (
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/apis/example"
	apistorage "k8s.io/apiserver/pkg/storage"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"

	"metal-stack.io/infrastructure-apiserver/pkg/ledger"
	"metal-stack.io/infrastructure-apiserver/pkg/ledger/memory"
)

const decodedOnce = "it breaks the decoding of what is stored while it is read or watched; here objects are decoded when they are written or loaded, and one that cannot be read stops Open (TestARecordThatCannotBeReadStopsOpen)"

// suite is how a suite is run, or why it is not.
type suite struct {
	run    func(t *testing.T, f *conformanceFixture)
	excuse string
}

// suites are all suites of k8s.io/apiserver/pkg/storage/testing.
var suites = map[string]suite{
	"RunTestCreate": {run: func(t *testing.T, f *conformanceFixture) {
		storagetesting.RunTestCreate(f.ctx, t, f.store, f.checkStored)
	}},
	"RunTestCreateWithTTL":                                    plain(storagetesting.RunTestCreateWithTTL),
	"RunTestCreateWithKeyExist":                               plain(storagetesting.RunTestCreateWithKeyExist),
	"RunTestGet":                                              plain(storagetesting.RunTestGet),
	"RunTestUnconditionalDelete":                              plain(storagetesting.RunTestUnconditionalDelete),
	"RunTestConditionalDelete":                                plain(storagetesting.RunTestConditionalDelete),
	"RunTestDeleteWithSuggestion":                             plain(storagetesting.RunTestDeleteWithSuggestion),
	"RunTestDeleteWithSuggestionAndConflict":                  plain(storagetesting.RunTestDeleteWithSuggestionAndConflict),
	"RunTestDeleteWithConflict":                               plain(storagetesting.RunTestDeleteWithConflict),
	"RunTestDeleteWithSuggestionOfDeletedObject":              plain(storagetesting.RunTestDeleteWithSuggestionOfDeletedObject),
	"RunTestValidateDeletionWithSuggestion":                   plain(storagetesting.RunTestValidateDeletionWithSuggestion),
	"RunTestValidateDeletionWithOnlySuggestionValid":          plain(storagetesting.RunTestValidateDeletionWithOnlySuggestionValid),
	"RunTestPreconditionalDeleteWithSuggestion":               plain(storagetesting.RunTestPreconditionalDeleteWithSuggestion),
	"RunTestPreconditionalDeleteWithOnlySuggestionPass":       plain(storagetesting.RunTestPreconditionalDeleteWithOnlySuggestionPass),
	"RunTestGetListRecursivePrefix":                           plain(storagetesting.RunTestGetListRecursivePrefix),
	"RunTestListPaging":                                       plain(storagetesting.RunTestListPaging),
	"RunTestNamespaceScopedList":                              plain(storagetesting.RunTestNamespaceScopedList),
	"RunTestGuaranteedUpdateWithTTL":                          plain(storagetesting.RunTestGuaranteedUpdateWithTTL),
	"RunTestGuaranteedUpdateWithConflict":                     plain(storagetesting.RunTestGuaranteedUpdateWithConflict),
	"RunTestGuaranteedUpdateWithSuggestionAndConflict":        plain(storagetesting.RunTestGuaranteedUpdateWithSuggestionAndConflict),
	"RunTestKeySchema":                                        plain(storagetesting.RunTestKeySchema),
	"RunTestWatch":                                            plain(storagetesting.RunTestWatch),
	"RunTestDeleteTriggerWatch":                               plain(storagetesting.RunTestDeleteTriggerWatch),
	"RunTestWatchFromNonZero":                                 plain(storagetesting.RunTestWatchFromNonZero),
	"RunTestDelayedWatchDelivery":                             plain(storagetesting.RunTestDelayedWatchDelivery),
	"RunTestWatchContextCancel":                               plain(storagetesting.RunTestWatchContextCancel),
	"RunTestWatcherTimeout":                                   plain(storagetesting.RunTestWatcherTimeout),
	"RunTestWatchDeleteEventObjectHaveLatestRV":               plain(storagetesting.RunTestWatchDeleteEventObjectHaveLatestRV),
	"RunTestWatchInitializationSignal":                        plain(storagetesting.RunTestWatchInitializationSignal),
	"RunTestClusterScopedWatch":                               plain(storagetesting.RunTestClusterScopedWatch),
	"RunTestNamespaceScopedWatch":                             plain(storagetesting.RunTestNamespaceScopedWatch),
	"RunTestOptionalWatchBookmarksWithCorrectResourceVersion": plain(storagetesting.RunTestOptionalWatchBookmarksWithCorrectResourceVersion),
	"RunSendInitialEventsBackwardCompatibility":               plain(storagetesting.RunSendInitialEventsBackwardCompatibility),
	"RunWatchSemantics":                                       plain(storagetesting.RunWatchSemantics),
	"RunWatchSemanticInitialEventsExtended":                   plain(storagetesting.RunWatchSemanticInitialEventsExtended),
	"RunWatchListMatchSingle":                                 plain(storagetesting.RunWatchListMatchSingle),
	"RunTestListContinuation":                                 uncounted(storagetesting.RunTestListContinuation),
	"RunTestListPaginationRareObject":                         uncounted(storagetesting.RunTestListPaginationRareObject),
	"RunTestListContinuationWithFilter":                       uncounted(storagetesting.RunTestListContinuationWithFilter),
	"RunTestList": {run: func(t *testing.T, f *conformanceFixture) {
		storagetesting.RunTestList(f.ctx, t, f.store, f.compact, false, nil)
	}},
	"RunTestConsistentList": {run: func(t *testing.T, f *conformanceFixture) {
		storagetesting.RunTestConsistentList(f.ctx, t, f.store, f.increase, false, true, false)
	}},
	"RunTestGetListNonRecursive": {run: func(t *testing.T, f *conformanceFixture) {
		storagetesting.RunTestGetListNonRecursive(f.ctx, t, f.increase, f.store)
	}},
	"RunTestListInconsistentContinuation": {run: func(t *testing.T, f *conformanceFixture) {
		storagetesting.RunTestListInconsistentContinuation(f.ctx, t, f.store, f.compact)
	}},
	"RunTestListResourceVersionMatch": {run: func(t *testing.T, f *conformanceFixture) {
		storagetesting.RunTestListResourceVersionMatch(f.ctx, t, f)
	}},
	"RunTestGuaranteedUpdate": {run: func(t *testing.T, f *conformanceFixture) {
		storagetesting.RunTestGuaranteedUpdate(f.ctx, t, f, f.checkStored)
	}},
	"RunTestGuaranteedUpdateChecksStoredData": {run: func(t *testing.T, f *conformanceFixture) {
		storagetesting.RunTestGuaranteedUpdateChecksStoredData(f.ctx, t, f)
	}},
	"RunTestStats": {run: func(t *testing.T, f *conformanceFixture) {
		t.Run("WithoutSizes", func(t *testing.T) {
			f := newConformanceFixture(t, Options{})
			storagetesting.RunTestStats(f.ctx, t, f.store, codec, identity.NewEncryptCheckTransformer(), false)
		})
		t.Run("WithSizes", func(t *testing.T) {
			if err := f.store.EnableResourceSizeEstimation(func(context.Context) ([]string, error) { return nil, nil }); err != nil {
				t.Fatal(err)
			}
			storagetesting.RunTestStats(f.ctx, t, f.store, codec, identity.NewEncryptCheckTransformer(), true)
		})
	}},
	"RunTestCompactRevision": {run: func(t *testing.T, f *conformanceFixture) {
		storagetesting.RunTestCompactRevision(f.ctx, t, f.store, f.increase, f.compact)
	}},
	"RunTestWatchFromZero": {run: func(t *testing.T, f *conformanceFixture) {
		storagetesting.RunTestWatchFromZero(f.ctx, t, f.store, f.compact)
	}},
	"RunTestWatchDispatchBookmarkEvents": {run: func(t *testing.T, f *conformanceFixture) {
		storagetesting.RunTestWatchDispatchBookmarkEvents(f.ctx, t, f.store, true)
	}},
	"RunOptionalTestProgressNotify": {run: func(t *testing.T, _ *conformanceFixture) {
		f := newConformanceFixture(t, Options{BookmarkInterval: 100 * time.Millisecond})
		storagetesting.RunOptionalTestProgressNotify(f.ctx, t, f.store, f.increase)
	}},
	"RunTestTransformationFailure":         {excuse: decodedOnce},
	"RunTestWatchError":                    {excuse: decodedOnce},
	"RunTestWatchWithUnsafeDelete":         {excuse: decodedOnce},
	"RunWatchErrorIsBlockingFurtherEvents": {excuse: decodedOnce},
	"RunBenchmarkStoreListCreate":          {excuse: "a benchmark: BenchmarkUpstream"},
	"RunBenchmarkStoreList":                {excuse: "a benchmark: BenchmarkUpstream"},
	"RunBenchmarkStoreStats":               {excuse: "a benchmark: BenchmarkUpstream"},
}

func plain(run func(context.Context, *testing.T, apistorage.Interface)) suite {
	return suite{run: func(t *testing.T, f *conformanceFixture) { run(f.ctx, t, f.store) }}
}

// uncounted runs a suite without its check of how often etcd was called.
func uncounted(run func(context.Context, *testing.T, apistorage.Interface, storagetesting.CallsValidation)) suite {
	return plain(func(ctx context.Context, t *testing.T, s apistorage.Interface) { run(ctx, t, s, nil) })
}

func TestConformance(t *testing.T) {
	for name, suite := range suites {
		t.Run(name, func(t *testing.T) {
			if suite.excuse != "" {
				t.Skip(suite.excuse)
			}
			suite.run(t, newConformanceFixture(t, Options{}))
		})
	}
}

// TestConformance_NamesEverySuiteOfTheLibrary reads the suites' source.
func TestConformance_NamesEverySuiteOfTheLibrary(t *testing.T) {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "k8s.io/apiserver/pkg/storage/testing").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	exported := map[string]bool{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Run") {
				exported[fn.Name.Name] = true
			}
		}
	}
	if len(exported) < 50 {
		t.Errorf("only %d suites were found", len(exported))
	}
	for name := range exported {
		if _, found := suites[name]; !found {
			t.Errorf("%s is neither run nor excused", name)
		}
	}
	for name, suite := range suites {
		if !exported[name] {
			t.Errorf("%s does not exist any more", name)
		}
		if (suite.run == nil) == (suite.excuse == "") {
			t.Errorf("%s must be run or excused", name)
		}
	}
}

// conformanceFixture is a store of Pods, with the hooks that the suites ask for.
type conformanceFixture struct {
	*Store
	ctx    context.Context
	store  *Store
	ledger *transforming
}

func newConformanceFixture(t *testing.T, opts Options) *conformanceFixture {
	l := &transforming{Ledger: memory.New(), transformer: storagetesting.NewPrefixTransformer([]byte("prefix "), false)}
	opts.Ledger, opts.Clock = l, clockAtZero
	s := startPods(t, opts)
	return &conformanceFixture{Store: s, ctx: context.Background(), store: s, ledger: l}
}

// checkStored is a KeyValidation: what is stored has neither revision nor link.
func (f *conformanceFixture) checkStored(_ context.Context, t *testing.T, key string) {
	r := recordOf(t, f.ledger, f.store.ledgerKey(key))
	if r == nil {
		t.Fatalf("%s is not in the ledger", key)
	}
	var e envelope
	if err := json.Unmarshal(r.Value, &e); err != nil {
		t.Fatal(err)
	}
	obj, err := runtime.Decode(codec, e.Object)
	if err != nil {
		t.Fatal(err)
	}
	var stored metav1.Object = obj.(*example.Pod)
	if stored.GetResourceVersion() != "" || stored.GetSelfLink() != "" {
		t.Errorf("stored with revision %q and link %q", stored.GetResourceVersion(), stored.GetSelfLink())
	}
}

// increase issues a revision without a change.
func (f *conformanceFixture) increase(context.Context, *testing.T) int64 {
	b := f.store.backend
	b.mu.Lock()
	defer b.mu.Unlock()
	f.store.view.mu.Lock()
	defer f.store.view.mu.Unlock()
	return int64(b.revisions.next())
}

// compact forgets what was before a revision, which in etcd takes a revision.
func (f *conformanceFixture) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	revision, err := f.store.versioner.ParseResourceVersion(resourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	f.store.view.mu.Lock()
	f.store.view.ring.compact(revision)
	f.store.view.snaps.compact(revision)
	f.store.view.mu.Unlock()
	f.increase(ctx, t)
}

// UpdatePrefixTransformer implements InterfaceWithPrefixTransformer: the
// ledger keeps other bytes from now on, and has them read again.
func (f *conformanceFixture) UpdatePrefixTransformer(modify storagetesting.PrefixTransformerModifier) func() {
	before := f.ledger.get().(*storagetesting.PrefixTransformer)
	modified := storagetesting.NewPrefixTransformer([]byte("prefix "), false)
	f.ledger.set(modify(modified))
	f.reread()
	return func() {
		f.ledger.set(before)
		f.reread()
	}
}

// reread takes the records' bytes over from the ledger, as a restart would,
// without a change of what is shown.
func (f *conformanceFixture) reread() {
	list, err := f.ledger.List(f.ctx)
	if err != nil {
		panic(err)
	}
	b, v := f.store.backend, &f.store.view
	b.mu.Lock()
	defer b.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range list {
		if !strings.HasPrefix(r.Key, f.store.ledgerPrefix) {
			continue
		}
		rec, err := f.store.decode(r)
		if err != nil {
			panic(err)
		}
		key := f.store.prefix + strings.TrimPrefix(r.Key, f.store.ledgerPrefix)
		v.tree.ReplaceOrInsert(&entry{key: key, obj: v.find(key).obj, rec: rec})
	}
}

// transforming is a ledger whose bytes go through a transformer; what that
// calls stale has a line feed too many.
type transforming struct {
	ledger.Ledger
	mu          sync.Mutex
	transformer value.Transformer
}

func (l *transforming) get() value.Transformer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.transformer
}

func (l *transforming) set(t value.Transformer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.transformer = t
}

func (l *transforming) List(ctx context.Context) ([]ledger.Record, error) {
	list, err := l.Ledger.List(ctx)
	for i := range list {
		if list[i].Key == markKey {
			continue
		}
		data, stale, err := l.get().TransformFromStorage(ctx, list[i].Value, value.DefaultContext{})
		if err != nil {
			return nil, err
		}
		if stale {
			data = append(data, '\n')
		}
		list[i].Value = data
	}
	return list, err
}

func (l *transforming) Create(ctx context.Context, key string, data []byte) (string, error) {
	data, err := l.transform(ctx, key, data)
	if err != nil {
		return "", err
	}
	return l.Ledger.Create(ctx, key, data)
}

func (l *transforming) Update(ctx context.Context, key, version string, data []byte) (string, error) {
	data, err := l.transform(ctx, key, data)
	if err != nil {
		return "", err
	}
	return l.Ledger.Update(ctx, key, version, data)
}

func (l *transforming) transform(ctx context.Context, key string, data []byte) ([]byte, error) {
	if key == markKey {
		return data, nil
	}
	return l.get().TransformToStorage(ctx, data, value.DefaultContext{})
}
