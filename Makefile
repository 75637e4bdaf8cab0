# Everything a developer does here. `make` or `make help` lists it. It needs Go,
# git and a POSIX shell; the first use of a tool compiles it, which takes minutes.

.DEFAULT_GOAL := help

GO_TOOL := go tool -modfile=tools/go.mod
BUF := $(GO_TOOL) buf
GOLANGCI := go tool -modfile=$(CURDIR)/tools/golangci/go.mod golangci-lint
NODE := $(CURDIR)/tools/node/run.sh
TYPESCRIPT := sdk/typescript
CONSOLE := console
GENERATED := gen sdk/examples/orders/gen $(TYPESCRIPT)/src/gen $(TYPESCRIPT)/examples/gen

# PKG narrows the tests: make test PKG=./server/internal/auth/
PKG ?= ./...

# The revision that `make breaking` compares with. CI sets what it has:
# origin/main for a pull request, the commit before the push on main.
AGAINST ?= main

FUZZTIME ?= 30s

# Before a command: a real PostgreSQL and Redis, in TOLLGATE_TEST_POSTGRES_URL and
# TOLLGATE_TEST_REDIS_URL. As a program rather than by `go run`, which passes on
# neither signals nor the exit status.
WITH_SERVICES = go build -C tools -o '$(CURDIR)/bin/services' ./services && exec bin/services exec $(SERVICES_FLAGS) --

# -race turns checkptr on, which makes the SQLite driver many times slower.
GO_TEST := go test -race -gcflags=all=-d=checkptr=0 -timeout 20m

.PHONY: help run services test test-oauth-clients test-typescript test-python test-s3 test-console console console-check cover bench microbench export-speed fuzz chaos policy-check audit-check audit-months check fmt lint lint-go lint-proto \
	tidy-check words generate generate-check breaking third-party

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Start the server on http://127.0.0.1:8000 with a SQLite file
	go run ./server

services: ## Run PostgreSQL and Redis for trying things, until Ctrl-C
	go build -C tools -o "$(CURDIR)/bin/services" ./services && exec bin/services up

test: ## Run every test on SQLite, PostgreSQL, memory and Redis, with the race detector
	@cd tools && go test ./... >&2
	$(WITH_SERVICES) $(GO_TEST) $(PKG)

# Clients that others wrote, against the real binary. Not part of `make test`:
# it needs Node and the npm registry.
test-oauth-clients: ## Run oauth4webapi and openid-client against a server (needs Node)
	go build -o bin/tollgate ./server
	npm --prefix tools/oauth-clients ci --no-audit --no-fund
	TOLLGATE_BINARY="$(CURDIR)/bin/tollgate" npm --prefix tools/oauth-clients test

# The runtimes are a package of their own: they have 350 MB, and only the tests need them.
test-typescript: $(TYPESCRIPT)/node_modules/.package-lock.json $(TYPESCRIPT)/test/runtimes/node_modules/.package-lock.json ## Check the TypeScript SDK, and test it against a server
	go build -o bin/tollgate ./server
	TOLLGATE_BINARY="$(CURDIR)/bin/tollgate" $(NODE) npm --prefix $(TYPESCRIPT) test

# The same test runs in `make test`, with a bucket of its own.
test-s3: ## Follow the audit log into VersityGW, an S3 server that others wrote
	GOBIN='$(CURDIR)/bin' go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
	TOLLGATE_VERSITYGW='$(CURDIR)/bin/versitygw' go test -count=1 -v -run '^TestS3FollowsTheLog$$' ./server/internal/sinks

test-python: ## Check the Python SDK, and test it against a server, with Debian's packages
	go build -o bin/tollgate ./server
	cd sdk/python && TOLLGATE_BINARY="$(CURDIR)/bin/tollgate" ../../tools/python/run.sh -m pytest -q -p no:cacheprovider

test-console: $(CONSOLE)/node_modules/.package-lock.json ## Test the console in Chromium, Debian's (UPDATE=1: write docs/console/*.png)
	go build -o bin/tollgate ./server
	TOLLGATE_BINARY="$(CURDIR)/bin/tollgate" UPDATE=$(UPDATE) tools/chromium/run.sh $(NODE) npm --prefix $(CONSOLE) test

console: $(CONSOLE)/node_modules/.package-lock.json ## Build the console into console/dist, which is in git
	$(NODE) npm --prefix $(CONSOLE) run build

console-check: $(CONSOLE)/node_modules/.package-lock.json ## Check the console's types, and fail if console/dist is not what its source says
	$(NODE) npm --prefix $(CONSOLE) run check
	@new=$$(mktemp -d) && trap 'rm -rf "$$new"' EXIT && \
	$(NODE) npm --prefix $(CONSOLE) run build -- --outDir "$$new" --emptyOutDir --logLevel warn && \
	diff -r $(CONSOLE)/dist "$$new" >&2 || \
		{ echo "console/dist is out of date: run 'make console' and commit the result" >&2; exit 1; }

cover: ## Run every test and write coverage to cover.out and cover.html
	$(WITH_SERVICES) go test -timeout 20m -coverpkg=./server/...,./sdk/...,./internal/... -coverprofile=cover.out $(PKG)
	go tool cover -func=cover.out | tail -1
	go tool cover -html=cover.out -o cover.html

# What a call costs the real binary, beside an RPC that does nothing. `make test`
# sends the same requests once each. The binary of the tests runs by itself, so
# that its progress is seen and Ctrl-C ends it.
bench: SERVICES_FLAGS = --load --dir server
bench: ## Measure the server (QUICK=1: in minutes; UPDATE=1: write docs/performance.md)
	go test -c -o bin/bench.test ./server
	$(WITH_SERVICES) env TOLLGATE_BENCH=$(if $(QUICK),quick,full) TOLLGATE_BENCH_UPDATE=$(UPDATE) \
		'$(CURDIR)/bin/bench.test' -test.run '^TestBench$$' -test.timeout 3h

microbench: ## Run the benchmarks of single functions
	$(WITH_SERVICES) go test -run '^$$' -bench . -benchmem $(PKG)

# The same test runs in `make test`, with few.
export-speed: ## Export a million audit events of each database in each format; print how fast
	$(WITH_SERVICES) env TOLLGATE_EXPORT_EVENTS=1000000 go test -count=1 -timeout 30m -run '^TestExportSpeed$$' -v ./server/internal/audit/export

fuzz: ## Fuzz each target for FUZZTIME (default: 30s)
	@set -e; for package in $$(grep -rl --include='*_test.go' '^func Fuzz' internal sdk server | xargs -n1 dirname | sort -u); do \
		for target in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$package/*_test.go | cut -c6-); do \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) ./$$package; \
		done; \
	done

# What several instances promise, measured while things break. The same tests run
# in `make test` with small numbers and without judging times.
chaos: SERVICES_FLAGS = --pgbouncer
chaos: ## Break servers and backends under load; print what was promised and measured
	@table=$$(mktemp); printf '| Promise | Measured | Verdict |\n|---|---|---|\n' > $$table; \
	( $(WITH_SERVICES) env TOLLGATE_CHAOS=1 TOLLGATE_CHAOS_TABLE=$$table \
		go test -count=1 -parallel 1 -timeout 2h -run '^Test(Cluster|Chaos|Hostile|MigratePostgreSQL)' ./server ); \
	status=$$?; cat $$table; rm -f $$table; exit $$status

# The same tests run in `make test`, with few.
policy-check: ## Compare policies with a naive model: 1,000,000 decisions, and as many cached ones
	TOLLGATE_POLICY_RUNS=1000000 go test -count=1 -v -timeout 60m -run '^Test(EngineAgrees|ModelFinds|CachedAnswers|Implied)' ./server/internal/roles

# The same test runs in `make test`, with few.
audit-check: ## Search and count a million audit events of each database; print how long it takes
	$(WITH_SERVICES) env TOLLGATE_AUDIT_EVENTS=1000000 go test -count=1 -timeout 30m -run '^Test(Verify|Moved)?ManyEvents$$' -v ./server/internal/audit

# The same tests run in `make test`, with few.
audit-months: ## Partition an audit log of 1,000,000 events, and drop a month of as many, while others are recorded
	$(WITH_SERVICES) env TOLLGATE_AUDIT_ROWS=1000000 go test -count=1 -v -timeout 30m -run '^Test(Months|DropMonth)UnderLoad$$' ./server/internal/database ./server/internal/audit

# The tests come last, so that a run ends with their own lines.
check: lint tidy-check words generate-check breaking test-typescript test-python console-check test-console test ## Everything CI checks

fmt: third-party ## Format Go and protos
	$(GOLANGCI) fmt
	cd tools && $(GOLANGCI) fmt
	$(BUF) format -w proto
	$(BUF) format -w sdk/examples/orders/proto

lint: lint-proto lint-go words ## Lint Go and protos

lint-go:
	$(GOLANGCI) run
	cd tools && $(GOLANGCI) run

lint-proto: third-party
	$(BUF) lint
	$(BUF) format --diff --exit-code proto
	$(BUF) format --diff --exit-code sdk/examples/orders/proto

words: ## Fail on words that have a standard term (tools/words/words.txt)
	@go run -C tools ./words ..

tidy-check: ## Fail if a go.mod or go.sum is not tidy
	go mod tidy -diff
	cd tools && go mod tidy -diff
	cd tools/golangci && go mod tidy -diff

generate: third-party $(TYPESCRIPT)/node_modules/.package-lock.json ## Generate Go and TypeScript code, OpenAPI and the pages of flags and permissions
	$(BUF) generate
	$(BUF) generate --template sdk/examples/orders/buf.gen.yaml
	$(BUF) generate --template $(TYPESCRIPT)/buf.gen.yaml
	$(BUF) generate --template $(TYPESCRIPT)/examples/buf.gen.yaml
	go generate ./server

# Compares with the index, so that staged output counts as up to date.
generate-check: generate ## Fail if the generated code is not what the protos say
	@new=$$(git ls-files --others -- $(GENERATED)); \
	if ! git diff --exit-code --stat -- $(GENERATED) || [ -n "$$new" ]; then \
		printf '%s\n' "$$new" "generated code is out of date or not in git: run 'make generate' and commit the result" >&2; \
		exit 1; \
	fi

# third_party is not in git, so the old protos meet today's imports.
breaking: third-party ## Fail if the protos break clients of AGAINST (default: main)
	@git rev-parse --quiet --verify '$(AGAINST)^{commit}' >/dev/null || \
		{ echo "breaking: no revision '$(AGAINST)'; fetch it or set AGAINST" >&2; exit 1; }
	@if ! git cat-file -e '$(AGAINST):proto' 2>/dev/null; then \
		echo "breaking: $(AGAINST) has no protos, nothing to compare with"; \
		exit 0; \
	fi; \
	old=$$(mktemp -d) && trap 'rm -rf "$$old"' EXIT && \
	git archive --output="$$old/proto.tar" '$(AGAINST)' proto && \
	tar -xf "$$old/proto.tar" -C "$$old" && \
	cp -R third_party "$$old/" && \
	printf 'version: v2\nmodules:\n  - path: proto\n  - path: third_party\n' >"$$old/buf.yaml" && \
	$(BUF) breaking proto --against "$$old/proto"

# npm writes that file last.
%/node_modules/.package-lock.json: %/package-lock.json
	$(NODE) npm --prefix $* ci --no-audit --no-fund >&2
	touch $@

third-party:
	@go run -C tools ./thirdparty ../third_party
