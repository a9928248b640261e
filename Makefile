# podtap. `make demo` shows it working, `make test` proves it; both need Go, git
# and make only, and run as an ordinary user (in a user namespace) or as root. The
# first time they fetch Go modules. `make test-kernel` proves it on another kernel, with
# qemu. `make e2e` proves it in a real cluster, as root.

GO      ?= go
BIN     := $(CURDIR)/bin
# The version is the image's tag, and the chart's appVersion.
VERSION ?= $(shell sed -n 's/^appVersion: *//p' deploy/helm/podtap/Chart.yaml)
# The plugin runs in every pod's start: static, and without what it does not need.
LDFLAGS := -s -w -X github.com/podtap/podtap/internal/version.version=$(VERSION)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOTESTSUM   := gotest.tools/gotestsum@v1.13.0
# Modules of their own, for what the programs themselves never need.
MODULES := deploy/test plugins/tap/drivers scripts/image
CLUSTER := scripts/cluster/cluster.sh
# PACKAGE:TARGET, each for FUZZTIME.
FUZZ := tap:FuzzParse cniconf:FuzzParse cniconf:FuzzPrevResult policy:FuzzParse policy:FuzzAllow mirror:FuzzAlias install:FuzzChain \
	pcapfilter:FuzzCompile pcapfilter/internal/graph:FuzzGraph
FUZZTIME ?= 10m

export CGO_ENABLED := 0

.PHONY: build image manifests demo test test-kernel e2e e2e-containerd bench-scale fuzz check bench filter-goldens clean

build: ## the programs, into bin/
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/podtap ./plugins/tap
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/podtapd ./cmd/podtapd
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/kubectl-podtap ./cmd/kubectl-podtap
	$(GO) build -trimpath -o $(BIN)/ tool

image: ## the container image, into dist/podtap-image.tar; ARCHS=arm64 for others besides
	scripts/image/build.sh $(ARCHS)

manifests: ## deploy/kustomize, rendered from the Helm chart
	cd deploy/test && $(GO) run ./manifests ..

demo: build ## a tapped pod on two nodes made of network namespaces
	$(BIN)/kubectl-podtap demo

test: ## all tests, in network namespaces of their own
	@set -e; for m in $(MODULES); do echo "== $$m"; (cd $$m && $(GO) test -count=1 ./...); done
	$(GO) run $(GOTESTSUM) --format pkgname -- -count=1 -timeout 20m ./...

test-kernel: ## the tests that make network namespaces, on Debian's kernel in an emulated machine; FULL=1 for all of each
	scripts/kernel/test.sh

# What `make e2e` goes through; scripts/e2e.sh --help tells what each lane is.
LANES ?= cluster networks multus faults scale helm
# containerd's version in the cluster: 2.2, 1.7, or deb, which is Debian's.
CTRD  ?= 2.2
export CTRD

e2e: build image ## podtap in a real cluster of two nodes on this machine, as root; takes about 10 minutes more the first time
	scripts/e2e.sh $(LANES)

e2e-containerd: build ## the quick lane: real containerd, no Kubernetes
	scripts/e2e.sh containerd

bench-scale: build image ## a hundred pods at once, with podtap and without it in turn
	ROUNDS=$(or $(ROUNDS),5) scripts/e2e.sh scale

fuzz: ## each parser, for FUZZTIME (10m) each
	@set -e; for f in $(FUZZ); do \
		echo "== $${f#*:} of pkg/$${f%:*} for $(FUZZTIME)"; \
		$(GO) test -run '^$$' -fuzz "^$${f#*:}\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x ./pkg/$${f%:*}; \
	done

check: ## formatting, vet, staticcheck, module files
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	$(GO) vet ./... && $(GO) vet -tags e2e ./internal/e2e
	$(GO) run $(STATICCHECK) ./... && $(GO) run $(STATICCHECK) -tags e2e ./internal/e2e
	@set -e; for d in . $(MODULES); do (cd $$d && $(GO) mod tidy -diff && $(GO) vet ./...); done

bench: build ## what ADD, CHECK and DEL cost, beside containernetworking's bandwidth
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/reference ./internal/bench/reference
	$(GO) run ./internal/bench -bin $(BIN) -o docs/benchmarks.md

filter-goldens: ## libpcap's programs that filters are compared with, anew, with the tcpdump that is installed
	$(GO) test ./pkg/pcapfilter -count=1 -run 'IsLibpcaps$$' -update

clean:
	rm -rf $(BIN) dist
