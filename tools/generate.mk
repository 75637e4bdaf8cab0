# Code generation and linting, included by the root Makefile; all of it runs
# from the repository root and needs nothing but Go, git and a POSIX shell. The
# first run compiles the tools, which takes minutes; Go's build cache keeps
# them.

GO_TOOL := go tool -modfile=tools/go.mod
BUF := $(GO_TOOL) buf
GENERATED := gen sdk/examples/orders/gen

# The revision that `make breaking` compares with. CI sets what it has:
# origin/main for a pull request, the commit before the push on main.
AGAINST ?= main

.PHONY: generate generate-check lint-proto breaking lint-go third-party

generate: third-party ## Generate Go code, OpenAPI and the pages of flags and permissions
	$(BUF) generate
	$(BUF) generate --template sdk/examples/orders/buf.gen.yaml
	go generate ./server

# Compares with the index, so that staged output counts as up to date.
generate-check: generate ## Fail if the generated code is not what the protos say
	@new=$$(git ls-files --others -- $(GENERATED)); \
	if ! git diff --exit-code --stat -- $(GENERATED) || [ -n "$$new" ]; then \
		printf '%s\n' "$$new" "generated code is out of date or not in git: run 'make generate' and commit the result" >&2; \
		exit 1; \
	fi

lint-proto: third-party ## Lint the protos
	$(BUF) lint

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

lint-go: ## Check format, vet and staticcheck, the tools module included
	@files=$$(find . -name '*.go' -not -path './gen/*' -not -path './sdk/examples/orders/gen/*' -exec gofmt -l {} +) || exit 1; \
	if [ -n "$$files" ]; then \
		echo "not formatted, run gofmt -w:" >&2; echo "$$files" >&2; \
		exit 1; \
	fi
	go vet ./...
	go vet -C tools ./...
	$(GO_TOOL) staticcheck ./...
	cd tools && go tool staticcheck ./...

third-party:
	@go run -C tools ./thirdparty ../third_party
