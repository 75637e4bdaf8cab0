# Everything a developer does here. `make` or `make help` lists it.

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## Start the server on http://127.0.0.1:8000 with a SQLite file
	go run ./server

include tools/services.mk

# PKG narrows the tests: make test PKG=./server/internal/auth/
PKG ?= ./...

# -race turns checkptr on, which makes the SQLite driver many times slower.
.PHONY: test
test: ## Run every test on SQLite, PostgreSQL, memory and Redis, with the race detector
	@cd tools && go test ./... >&2
	$(WITH_SERVICES) go test -race -gcflags=all=-d=checkptr=0 -timeout 20m $(PKG)

.PHONY: bench
bench: ## Run the benchmarks
	$(WITH_SERVICES) go test -run '^$$' -bench . -benchmem $(PKG)

include tools/chaos.mk

include tools/generate.mk

.PHONY: lint
lint: lint-go lint-proto ## Lint Go and protos

.PHONY: check
check: lint generate-check test ## Everything CI checks
