# What several instances promise, measured while things break. The same tests
# run in "make test" with small numbers and without judging times.

.PHONY: chaos
chaos: SERVICES_FLAGS = --pgbouncer
chaos: ## Break servers and backends under load; print what was promised and measured
	@table=$$(mktemp); printf '| Promise | Measured | Verdict |\n|---|---|---|\n' > $$table; \
	$(WITH_SERVICES) env TOLLGATE_CHAOS=1 TOLLGATE_CHAOS_TABLE=$$table \
		go test -count=1 -parallel 1 -timeout 60m -run '^Test(Cluster|Chaos|Hostile|MigratePostgreSQL)' ./server; \
	status=$$?; cat $$table; rm -f $$table; exit $$status
