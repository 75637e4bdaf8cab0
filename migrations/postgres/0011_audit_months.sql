-- +migrate Up notransaction

-- Events that are kept whatever their age: those that a hold's filter lets through.
CREATE TABLE IF NOT EXISTS audit_holds (
    name        TEXT COLLATE "C" PRIMARY KEY,
    actor       TEXT NOT NULL,
    action      TEXT NOT NULL,
    resource    TEXT NOT NULL,
    after_time  BIGINT,
    before_time BIGINT,
    reason      TEXT NOT NULL,
    created_by  TEXT NOT NULL,
    created_at  BIGINT NOT NULL
);

-- The one row that those who delete events and those who change holds lock, to wait for
-- each other.
CREATE TABLE IF NOT EXISTS audit_pruners (id SMALLINT PRIMARY KEY CHECK (id = 1));
INSERT INTO audit_pruners (id) VALUES (1) ON CONFLICT DO NOTHING;

-- Ranges of leaves whose events were dropped with their month, and whose rows in
-- audit_leaves are still to be deleted.
CREATE TABLE IF NOT EXISTS audit_dropped_leaves (
    first_leaf BIGINT PRIMARY KEY,
    last_leaf  BIGINT NOT NULL
);

-- audit_events becomes a table partitioned by month. What it holds stays where it is, as
-- the partition of everything before a month that lies ahead; servers make those after it.
-- Each statement takes its locks for milliseconds, gives up after 200 ms rather than have
-- writers wait behind it, and does nothing when it was done before: the migration is
-- tried again from the start. In between, the check refuses events from beyond the bound,
-- which is more than two months ahead of now and of every event.

-- +migrate StatementBegin
DO $$
DECLARE bound BIGINT;
BEGIN
    PERFORM set_config('lock_timeout', '200ms', true);
    IF (SELECT relkind FROM pg_class WHERE oid = to_regclass('audit_events')) = 'p' OR EXISTS (
        SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass('audit_events') AND conname = 'audit_events_bound') THEN
        RETURN;
    END IF;
    SELECT extract(epoch FROM date_trunc('month', greatest(now(), to_timestamp(max(time) / 1000000)) AT TIME ZONE 'UTC')
        + interval '3 months')::bigint * 1000000 INTO bound FROM audit_events;
    EXECUTE format('ALTER TABLE audit_events ADD CONSTRAINT audit_events_bound CHECK (time < %s) NOT VALID', bound);
END $$;
-- +migrate StatementEnd

-- Reads the whole table, with a lock that keeps neither readers nor writers out.
-- +migrate StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass('audit_events')
        AND conname = 'audit_events_bound' AND NOT convalidated) THEN
        ALTER TABLE audit_events VALIDATE CONSTRAINT audit_events_bound;
    END IF;
END $$;
-- +migrate StatementEnd

-- Reads nothing, thanks to the check. An index that the old table lacks is built there by
-- servers, without a lock, and at once when the table is small. Each partition has a key
-- on id of its own: one of the parent would need the time.
-- +migrate StatementBegin
DO $$
DECLARE
    bound BIGINT;
    small BOOLEAN;
    old   RECORD;
    new   TEXT;
BEGIN
    PERFORM set_config('lock_timeout', '200ms', true);
    IF (SELECT relkind FROM pg_class WHERE oid = to_regclass('audit_events')) = 'p' THEN
        RETURN;
    END IF;
    LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE;
    SELECT substring(pg_get_constraintdef(oid) FROM '-?\d+')::bigint INTO STRICT bound
        FROM pg_constraint WHERE conrelid = to_regclass('audit_events') AND conname = 'audit_events_bound';
    small := pg_relation_size('audit_events') < 1000000;
    FOR old IN SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass('audit_events') LOOP
        EXECUTE format('ALTER INDEX %I RENAME TO %I', old.relname, replace(old.relname, 'audit_events_', 'audit_events_start_'));
    END LOOP;
    ALTER TABLE audit_events RENAME TO audit_events_start;
    CREATE TABLE audit_events (LIKE audit_events_start INCLUDING DEFAULTS) PARTITION BY RANGE (time);
    ALTER SEQUENCE audit_events_position_seq OWNED BY audit_events.position;
    CREATE INDEX audit_events_by_time ON audit_events (time, id);
    CREATE INDEX audit_events_by_actor ON audit_events (actor_id, time, id);
    CREATE INDEX audit_events_by_action ON audit_events (action, time, id);
    CREATE INDEX audit_events_by_actor_name ON audit_events (actor_name, time, id);
    CREATE INDEX audit_events_by_outcome ON audit_events (outcome, time, id);
    CREATE INDEX audit_events_by_writer ON audit_events (writer, position);
    EXECUTE format('ALTER TABLE audit_events ATTACH PARTITION audit_events_start FOR VALUES FROM (MINVALUE) TO (%s)', bound);
    -- Nothing reads by the position alone, and the sequence gives each once.
    ALTER TABLE audit_events_start DROP CONSTRAINT audit_events_bound, DROP CONSTRAINT audit_events_start_position_key;
    FOREACH new IN ARRAY ARRAY[
        'by_resource_bytes ON %s (resource COLLATE "C", time, id)',
        'by_session ON %s (session_id, time, id) WHERE session_id <> ''''',
        'by_api_key ON %s (api_key_id, time, id) WHERE api_key_id <> ''''',
        'by_request ON %s (request_id, time, id) WHERE request_id <> ''''',
        'by_reason ON %s (reason, time, id) WHERE reason <> '''''
    ] LOOP
        EXECUTE format('CREATE INDEX audit_events_' || new, 'ONLY audit_events');
        IF small THEN
            EXECUTE format('CREATE INDEX audit_events_start_' || new, 'audit_events_start');
            EXECUTE format('ALTER INDEX audit_events_%1$s ATTACH PARTITION audit_events_start_%1$s', split_part(new, ' ', 1));
        END IF;
    END LOOP;
    IF small THEN
        DROP INDEX audit_events_start_by_resource;
    END IF;
    -- For clocks that are wrong: no event is refused for want of a partition.
    CREATE TABLE audit_events_default PARTITION OF audit_events (PRIMARY KEY (id)) DEFAULT;
END $$;
-- +migrate StatementEnd

-- +migrate Down

-- Copies what the partitions after the old table hold.
-- +migrate StatementBegin
DO $$
DECLARE old RECORD;
BEGIN
    LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE;
    IF to_regclass('audit_events_start') IS NULL THEN
        CREATE TABLE audit_events_start (LIKE audit_events INCLUDING DEFAULTS, CONSTRAINT audit_events_start_pkey PRIMARY KEY (id));
    ELSE
        ALTER TABLE audit_events DETACH PARTITION audit_events_start;
    END IF;
    INSERT INTO audit_events_start SELECT * FROM audit_events;
    ALTER SEQUENCE audit_events_position_seq OWNED BY audit_events_start.position;
    DROP TABLE audit_events;
    DROP INDEX IF EXISTS audit_events_start_by_resource_bytes, audit_events_start_by_session, audit_events_start_by_api_key,
        audit_events_start_by_request, audit_events_start_by_reason;
    ALTER TABLE audit_events_start RENAME TO audit_events;
    FOR old IN SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass('audit_events') LOOP
        EXECUTE format('ALTER INDEX %I RENAME TO %I', old.relname, replace(old.relname, 'audit_events_start_', 'audit_events_'));
    END LOOP;
    ALTER TABLE audit_events ADD CONSTRAINT audit_events_position_key UNIQUE (position);
    CREATE INDEX IF NOT EXISTS audit_events_by_time ON audit_events (time, id);
    CREATE INDEX IF NOT EXISTS audit_events_by_actor ON audit_events (actor_id, time, id);
    CREATE INDEX IF NOT EXISTS audit_events_by_action ON audit_events (action, time, id);
    CREATE INDEX IF NOT EXISTS audit_events_by_actor_name ON audit_events (actor_name, time, id);
    CREATE INDEX IF NOT EXISTS audit_events_by_resource ON audit_events (resource, time, id);
    CREATE INDEX IF NOT EXISTS audit_events_by_outcome ON audit_events (outcome, time, id);
    CREATE INDEX IF NOT EXISTS audit_events_by_writer ON audit_events (writer, position);
END $$;
-- +migrate StatementEnd
DROP TABLE audit_dropped_leaves;
DROP TABLE audit_pruners;
DROP TABLE audit_holds;
