# What there is to do: make help

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION)

# What is built does not depend on the folder of the clone, so all clones share one
# build cache.
export GOFLAGS := $(strip $(filter-out -trimpath,$(GOFLAGS)) -trimpath)

# Pinned in go.mod files of their own; the first call compiles them.
BUF      := go tool -modfile=tools/go.mod buf
# Without C it is built in less time, and makes the same.
SQLC     := CGO_ENABLED=0 go tool -modfile=tools/go.mod sqlc
GOLANGCI := go tool -modfile=tools/lint/go.mod golangci-lint
TESTSUM  := go tool -modfile=tools/go.mod gotestsum

# For "make run": more flags for the server, such as ARGS="--http-addr 127.0.0.1:8081".
ARGS ?=
# For "make test": which packages, and how. The race detector needs the C compiler
# that the test packages bring.
# Those that take longest start first; beside the first, which compute most, those that
# mostly wait for networks that stall.
PACKAGES  ?= ./test/... ./storage/s3 ./storage/gcs ./internal/engine/... ./bench ./internal/store ./...
TESTFLAGS ?= -race
# "make lint" vets; without DWARF the many test binaries are linked in less time.
FASTER := -vet=off -ldflags=-w
# How often tests that failed are run again, alone, before they count as failed, and
# whether a package that crashed is run again; see scripts/run-tests.sh.
RERUNS ?= 0
# For "make fuzz": how long each target runs.
FUZZTIME ?= 1m

.DEFAULT_GOAL := help

##@ Use

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/dataguardian
	go build -ldflags '$(LDFLAGS)' -o bin/dataguardian ./cmd/dataguardian

.PHONY: run
run: ## Start a server with demonstration data; installs PostgreSQL if it is missing
	scripts/install-packages.sh run
	$(MAKE) --no-print-directory build
	bin/dataguardian serve --demo $(ARGS)

##@ Check

.PHONY: test
test: ## Run every test, against real servers; installs those that are missing
	scripts/install-packages.sh test
	scripts/build-test-servers.sh
	TESTSUM='$(TESTSUM)' RERUNS=$(RERUNS) scripts/run-tests.sh '$(PACKAGES)' $(TESTFLAGS) $(FASTER) -count=1 -timeout=30m

# For "make matrix": which rows, as an extended regular expression.
ROWS ?= .
.PHONY: matrix
matrix: ## Run the engines' tests against other versions of the databases (ROWS=postgres-17)
	scripts/install-packages.sh test
	scripts/install-packages.sh matrix
	scripts/fetch-database-versions.sh
	scripts/matrix.sh '$(ROWS)'

.PHONY: lint
lint: ## Check code, protos, their format, and what we link for known vulnerabilities
	go vet ./...
	go -C tools vet ./protodump
	$(GOLANGCI) config verify
	$(GOLANGCI) run ./...
	$(BUF) lint
	$(BUF) format --diff --exit-code api
	scripts/vulnerabilities.sh

.PHONY: verify
verify: ## Check that generated files are up to date and the API breaks no client
	scripts/verify-generated.sh
	$(BUF) breaking api --against api/baseline.binpb --exclude-imports

.PHONY: vulnerabilities
vulnerabilities: ## Look for known vulnerabilities in what we link (asks the Go vulnerability database)
	scripts/vulnerabilities.sh --required

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (1m)
	scripts/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: ## Measure backups and requests beside other tools; ARGS="-help" tells more
	scripts/install-packages.sh bench
	scripts/build-test-servers.sh
	go run ./bench $(ARGS)

##@ Generate

.PHONY: generate
generate: generate-api generate-openapi generate-store ## Generate all that is generated

.PHONY: generate-api
generate-api: ## Go code from api/, into gen/
	$(BUF) generate

.PHONY: generate-openapi
generate-openapi: generate-api ## The REST reference, docs/openapi.json
	go run ./internal/openapi build/openapi/dataguardian.swagger.json docs/openapi.json

.PHONY: generate-store
generate-store: ## Go code from SQL, into internal/store/db
	$(SQLC) generate

.PHONY: third-party
third-party: ## Print the protos we import into third_party/, after an upgrade of their modules
	go -C tools run ./protodump ../third_party

.PHONY: baseline
baseline: ## Take today's API as the one "make verify" compares with; after a release
	$(BUF) build api --exclude-source-info -o api/baseline.binpb

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin build .cache
