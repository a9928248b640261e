# podtap. `make demo` shows it working, `make test` proves it; both need Go, git
# and make only, and run as an ordinary user (in a user namespace) or as root. The
# first time they fetch Go modules.

GO      ?= go
BIN     := $(CURDIR)/bin
# The plugin runs in every pod's start: static, and without what it does not need.
LDFLAGS := -s -w
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOTESTSUM   := gotest.tools/gotestsum@v1.13.0
# PACKAGE:TARGET, each for FUZZTIME.
FUZZ := tap:FuzzParse cniconf:FuzzParse cniconf:FuzzPrevResult policy:FuzzParse policy:FuzzAllow mirror:FuzzAlias
FUZZTIME ?= 10m

export CGO_ENABLED := 0

.PHONY: build demo test fuzz check bench clean

build: ## the programs, into bin/
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/podtap ./plugins/tap
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/kubectl-podtap ./cmd/kubectl-podtap
	$(GO) build -trimpath -o $(BIN)/ tool

demo: build ## a tapped pod on two nodes made of network namespaces
	$(BIN)/kubectl-podtap demo

test: ## all tests, in network namespaces of their own
	$(GO) run $(GOTESTSUM) --format pkgname -- -count=1 -timeout 20m ./...

fuzz: ## each parser, for FUZZTIME (10m) each
	@set -e; for f in $(FUZZ); do \
		echo "== $${f#*:} of pkg/$${f%:*} for $(FUZZTIME)"; \
		$(GO) test -run '^$$' -fuzz "^$${f#*:}\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x ./pkg/$${f%:*}; \
	done

check: ## formatting, vet, staticcheck, module files
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) mod tidy -diff

bench: build ## what ADD, CHECK and DEL cost, beside containernetworking's bandwidth
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/reference ./internal/bench/reference
	$(GO) run ./internal/bench -bin $(BIN) -o docs/benchmarks.md

clean:
	rm -rf $(BIN)
