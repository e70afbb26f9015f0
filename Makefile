# `make` lists what can be made. Needs Go, make, bash and git, nothing else;
# tools are built into bin/ from the modules in hack/tools, hack/controlplane,
# hack/capi and hack/helm.

SHELL      := /bin/bash
GO         ?= go
BIN        := bin
PROGRAMS   := metalstack-apiserver metalstack-controller-manager metal-api-simulator
K8S        := v1.36.3
CAPI       := v1.14.2
HELM       := v4.3.2
# One way to build this module: with other flags, every package is compiled again.
GO_BUILD    = CGO_ENABLED=0 $(GO) build -trimpath
VERSION    ?= $(or $(shell git describe --tags --match 'v*' --dirty 2>/dev/null),v0.0.0-devel)
COMMIT     ?= $(shell git rev-parse HEAD 2>/dev/null)
# What --version and User-Agents say. Only the linker sees them: packages are not compiled again.
LDFLAGS     = -X metal-stack.io/infrastructure-apiserver/pkg/version.version=$(VERSION) \
	-X metal-stack.io/infrastructure-apiserver/pkg/version.commit=$(COMMIT) \
	-X k8s.io/client-go/pkg/version.gitVersion=$(VERSION) -X k8s.io/client-go/pkg/version.gitCommit=$(COMMIT)
K8S_LDFLAGS := -s -w $(foreach package,k8s.io/component-base/version k8s.io/client-go/pkg/version,\
	-X $(package).gitVersion=$(K8S) -X $(package).gitMajor=1 -X $(package).gitMinor=36)
REGISTRY   ?= ghcr.io/metal-stack
TAG        ?= $(VERSION)
PUSH       ?=
# The release workflow has none: it makes no rehearsals.
RELEASE_FLAGS ?= --rehearse
# When images say that they were created: the time of the commit, so that it is the same for each who builds it.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)
PKG        ?= ./...
RUN        ?= .
RUN_FLAGS  ?=
FUZZTIME   ?= 30s
HISTORIES  ?= 10000
SEED       ?= 0
GOVULNCHECK := v1.9.0
DEMO_FLAGS ?=
LOAD_FLAGS ?=
N          ?= 10000
ONLY       ?= .
SIZES      ?= 1000,10000,50000
COMPARE_FLAGS ?=
DIST       ?= dist
COMPAT_FLAGS ?=
# All that hack/compat and hack/controlplane pin.
K8S_VERSIONS ?= $(sort $(patsubst hack/compat/%/go.mod,%,$(wildcard hack/compat/v*/go.mod)) $(basename $(K8S)))

# Cluster API knows its own writes by the name of the program that made them.
CAPI_MANAGERS := $(BIN)/capi/core/manager $(BIN)/capi/bootstrap/manager $(BIN)/capi/controlplane/manager

.DEFAULT_GOAL := help
.PHONY: help run demo test unit verify lint build kubectl-metal generate bench bench-compare bench-growth load load-compare fuzz faults govulncheck kubectl controlplane capi helm compat compat-versions images release clean

help: ## List these targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build $(if $(shell command -v kubectl),,$(BIN)/kubectl) ## Start simulator, API server and controller manager, and build clusters to watch (Ctrl-C stops all)
	@echo "building hack/run"
	@$(GO_BUILD) -o $(BIN)/run ./hack/run
	@exec $(BIN)/run --bin $(BIN) $(RUN_FLAGS)

demo: build kubectl-metal controlplane capi $(BIN)/release ## Cluster API builds, scales, repairs and deletes a tenant's cluster, on this machine (Ctrl-C stops all)
	@echo "building hack/demo (with cold caches: a minute or two)"
	@$(GO_BUILD) -o $(BIN)/demo ./hack/demo
	@exec $(BIN)/demo --bin $(BIN) $(DEMO_FLAGS)

test: ## Everything that CI checks: format, vet, lint, modules, generated code, all tests with race detector
	@hack/check.sh

unit: $(if $(findstring ./test,$(PKG))$(filter ./...,$(PKG)),controlplane capi helm $(BIN)/release) ## Tests alone, quickly: make unit PKG=./pkg/storage/... RUN=TestName
	$(GO) test -run '$(RUN)' $(PKG)

verify: ## What `make test` checks besides the tests
	@hack/check.sh format shell modules generated vet lint

lint: ## golangci-lint, with the linters of .golangci.yml
	@hack/check.sh lint

build: ## The three programs, into bin/
	@echo "building $(PROGRAMS) (with cold caches: some minutes)"
	@$(GO_BUILD) -ldflags '$(LDFLAGS)' -o $(BIN)/ $(PROGRAMS:%=./cmd/%)

kubectl-metal: ## The plugin of kubectl, into bin/: PATH=$$PWD/bin:$$PATH kubectl metal ls
	@echo "building kubectl-metal"
	@$(GO_BUILD) -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/kubectl-metal
	@cp artifacts/krew/kubectl_complete-metal $(BIN)/

generate: ## Generated code: deep copies, conversions, OpenAPI, clients; the chart's templates
	hack/update-codegen.sh

bench: ## Benchmarks: make bench PKG=./pkg/storage/... RUN=BenchmarkName
	$(GO) test -run '^$$' -bench '$(RUN)' -benchmem $(PKG)

bench-compare: controlplane ## Our kinds beside custom resources of the same content, with goals: make bench-compare N=10000 ONLY=fan-out (docs/benchmarks.md)
	$(GO) test ./test/performance/compare -run '^TestCompare' -v -count=1 -timeout 6h -compare.objects=$(N) -compare.only='$(ONLY)' -compare.repetitions=5 $(COMPARE_FLAGS)

bench-growth: controlplane ## Our kinds with fleets of several sizes, and what grows faster: make bench-growth SIZES=1000,10000,50000 (docs/benchmarks.md)
	$(GO) test ./test/performance/compare -run '^TestGrowth_All' -v -count=1 -timeout 3h -compare.sizes=$(SIZES) -compare.only='$(ONLY)' -compare.repetitions=3 $(COMPARE_FLAGS)

load: ## Load for half an hour: 10,000 objects, 200 watchers, 50 writers; then a thousand claims at once (docs/load.md)
	$(GO) test ./test/performance/load -v -count=1 -timeout 90m -load.duration=30m -load.objects=10000 -load.watchers=200 -load.slow=40 \
	  -load.writers=50 -load.rate=20 -load.claim-costs $(LOAD_FLAGS)

load-compare: controlplane ## 200 watchers, 40 of them slow, and 50 writes a second for half an hour, beside custom resources (docs/load.md)
	$(GO) test ./test/performance/compare -run '^TestLoadCompare' -v -count=1 -timeout 3h -compare.objects=$(N) -compare.load=30m -compare.slice=5m \
	  -compare.watchers=200 -compare.slow=40 -compare.rate=50 $(COMPARE_FLAGS)

fuzz: ## Fuzz all that reads foreign bytes, each target in turn for FUZZTIME (30s; before a release 1h): make fuzz RUN=NamePattern
	@FUZZTIME=$(FUZZTIME) hack/fuzz.sh '$(RUN)'

faults: ## Random histories of faults against the whole server: make faults HISTORIES=10000 SEED=…
	@set -o pipefail; $(GO) test -v -count=1 -timeout 12h -run '^TestHistories$$' ./test/robustness/faults -faults.histories=$(HISTORIES) -faults.seed=$(SEED) | grep -v '^=== RUN\|^ *--- PASS'

govulncheck: ## Known vulnerabilities in what the programs call (needs to reach vuln.go.dev)
	@$(GO) run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK) ./...

kubectl: $(BIN)/kubectl ## kubectl, into bin/

controlplane: $(BIN)/kubectl $(BIN)/kube-apiserver $(BIN)/kube-controller-manager $(BIN)/etcd ## A Kubernetes control plane to test against, into bin/

capi: $(CAPI_MANAGERS) $(BIN)/clusterctl ## Cluster API's managers and clusterctl to test against, into bin/

helm: $(BIN)/helm ## helm, into bin/, to install the chart in artifacts/charts with

compat: controlplane capi $(BIN)/release $(patsubst %,$(BIN)/compat/%/kube-apiserver,$(filter-out $(basename $(K8S)),$(K8S_VERSIONS))) ## The end-to-end core against each supported Kubernetes, and linux/arm64 under qemu: make compat K8S_VERSIONS='v1.33 v1.35'
	@CGO_ENABLED=0 $(GO) build -trimpath -o .cache/compat/compat ./hack/compat
	@exec .cache/compat/compat --versions '$(K8S_VERSIONS)' $(COMPAT_FLAGS)

compat-versions: # what .github/workflows/compat.yaml goes through
	@echo $(K8S_VERSIONS)

images: $(BIN)/release ## Container images of the three programs, without a container engine, into dist/images: make images REGISTRY=… TAG=… PUSH=1
	@echo "building images for linux/amd64 and linux/arm64 (with cold caches: some minutes)"
	@SOURCE_DATE_EPOCH='$(SOURCE_DATE_EPOCH)' $(BIN)/release images --tag '$(TAG)' --commit '$(COMMIT)' --output '$(DIST)' $(if $(filter-out file,$(origin REGISTRY)),--registry '$(REGISTRY)') $(if $(PUSH),--push)

release: $(BIN)/release ## A whole release, into dist/TAG; from another commit than the tag's, a rehearsal of it: make release TAG=v0.1.0 REGISTRY=… PUSH=1
	@$(BIN)/release all --tag '$(TAG)' --output '$(DIST)' --registry '$(REGISTRY)' $(RELEASE_FLAGS)
	@$(if $(PUSH),$(BIN)/release push --tag '$(TAG)' --output '$(DIST)' --registry '$(REGISTRY)')

clean: ## Remove what was built and what `make run` left
	rm -rf $(BIN) $(DIST) .run .cache

# Tools: built once, and again when the module that pins them changes.

CONTROLPLANE := hack/controlplane/go.mod hack/controlplane/go.sum
CLUSTERAPI   := hack/capi/go.mod hack/capi/go.sum
TOOLS        := hack/tools/go.mod hack/tools/go.sum

$(BIN)/kubectl $(BIN)/kube-apiserver $(BIN)/kube-controller-manager: $(CONTROLPLANE)
	@echo "building $(@F) $(K8S) (once; with cold caches: 1 to 5 minutes)"
	@CGO_ENABLED=0 $(GO) -C hack/controlplane build -trimpath -ldflags '$(K8S_LDFLAGS)' -o $(CURDIR)/$@ k8s.io/kubernetes/cmd/$(@F)

$(BIN)/etcd: $(CONTROLPLANE)
	@echo "building etcd (once)"
	@CGO_ENABLED=0 $(GO) -C hack/controlplane build -trimpath -ldflags '-s -w' -o $(CURDIR)/$@ go.etcd.io/etcd/server/v3

# Control planes of other versions, for `make compat`: the three programs by one command,
# of which kube-apiserver stands for all. All versions can share one etcd.
$(BIN)/compat/%/kube-apiserver: hack/compat/%/go.mod hack/compat/%/go.sum | $(BIN)/etcd
	@mkdir -p $(@D) && ln -sf ../../etcd $(@D)/etcd
	@version=$$($(GO) -C hack/compat/$* list -m -f '{{.Version}}' k8s.io/kubernetes) && \
	echo "building a control plane of Kubernetes $$version (once; with cold caches: 5 to 10 minutes)" && \
	CGO_ENABLED=0 $(GO) -C hack/compat/$* build -trimpath -o $(CURDIR)/$(@D)/ -ldflags "-s -w $(foreach package,k8s.io/component-base/version k8s.io/client-go/pkg/version,\
	-X $(package).gitVersion=$$version -X $(package).gitMajor=1 -X $(package).gitMinor=$(patsubst v1.%,%,$*))" \
	$(addprefix k8s.io/kubernetes/cmd/,kube-apiserver kube-controller-manager kubectl)

CAPI_LDFLAGS := -s -w -X sigs.k8s.io/cluster-api/version.gitVersion=$(CAPI) -X sigs.k8s.io/cluster-api/version.gitMajor=1 -X sigs.k8s.io/cluster-api/version.gitMinor=14

$(BIN)/capi/core/manager: PACKAGE := core
$(BIN)/capi/bootstrap/manager: PACKAGE := bootstrap/kubeadm
$(BIN)/capi/controlplane/manager: PACKAGE := controlplane/kubeadm
$(BIN)/clusterctl: PACKAGE := cmd/clusterctl
$(CAPI_MANAGERS) $(BIN)/clusterctl: $(CLUSTERAPI)
	@echo "building $(PACKAGE) of Cluster API $(CAPI) (once; with cold caches: up to 5 minutes)"
	@CGO_ENABLED=0 $(GO) -C hack/capi build -trimpath -ldflags '$(CAPI_LDFLAGS)' -o $(CURDIR)/$@ sigs.k8s.io/cluster-api/$(PACKAGE)

$(BIN)/helm: hack/helm/go.mod hack/helm/go.sum
	@echo "building helm $(HELM) (once; with cold caches: 2 to 3 minutes)"
	@CGO_ENABLED=0 $(GO) -C hack/helm build -trimpath -ldflags '-s -w -X helm.sh/helm/v4/internal/version.version=$(HELM)' -o $(CURDIR)/$@ helm.sh/helm/v4/cmd/helm

.PHONY: $(BIN)/release
$(BIN)/release: # go build knows what has changed.
	@$(GO) -C hack/release build -trimpath -o $(CURDIR)/$@ .

$(BIN)/golangci-lint: $(TOOLS)
	@echo "building golangci-lint (once; with cold caches: 2 to 3 minutes)"
	@CGO_ENABLED=0 $(GO) -C hack/tools build -trimpath -ldflags '-s -w' -o $(CURDIR)/$@ sigs.k8s.io/kube-api-linter/cmd/golangci-lint-kube-api-linter

$(BIN)/gotestsum: $(TOOLS)
	@echo "building gotestsum (once)"
	@$(GO) -C hack/tools build -o $(CURDIR)/$@ gotest.tools/gotestsum
