# A real PostgreSQL and Redis, included by the root Makefile. Put
# $(WITH_SERVICES) before a command to run it with TOLLGATE_TEST_POSTGRES_URL
# and TOLLGATE_TEST_REDIS_URL set. A target may need more: SERVICES_FLAGS.

WITH_SERVICES = go run -C tools ./services exec $(SERVICES_FLAGS) --dir '$(CURDIR)' --

.PHONY: services

services: ## Run PostgreSQL and Redis for trying things, until Ctrl-C
	go run -C tools ./services up
