# podtap. `make demo` shows it working, `make test` proves it; both need Go, git
# and make only, and run as an ordinary user (in a user namespace) or as root. The
# first time they fetch Go modules.

GO      ?= go
BIN     := $(CURDIR)/bin
# The plugin runs in every pod's start: static, and without what it does not need.
LDFLAGS := -s -w
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOTESTSUM   := gotest.tools/gotestsum@v1.13.0

export CGO_ENABLED := 0

.PHONY: build demo test check clean

build: ## the programs, into bin/
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/podtap ./plugins/tap
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/kubectl-podtap ./cmd/kubectl-podtap
	$(GO) build -trimpath -o $(BIN)/ tool

demo: build ## a tapped pod on two nodes made of network namespaces
	$(BIN)/kubectl-podtap demo

test: ## all tests, in network namespaces of their own
	$(GO) run $(GOTESTSUM) --format pkgname -- -count=1 -timeout 20m ./...

check: ## formatting, vet, staticcheck, module files
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) mod tidy -diff

clean:
	rm -rf $(BIN)
