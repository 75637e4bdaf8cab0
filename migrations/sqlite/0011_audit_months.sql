-- +migrate Up

-- Events that are kept whatever their age: those that a hold's filter lets through.
CREATE TABLE audit_holds (
    name        TEXT PRIMARY KEY,
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
CREATE TABLE audit_pruners (id SMALLINT PRIMARY KEY CHECK (id = 1));
INSERT INTO audit_pruners (id) VALUES (1);

-- Ranges of leaves whose events were dropped with their month, and whose rows in
-- audit_leaves are still to be deleted.
CREATE TABLE audit_dropped_leaves (
    first_leaf BIGINT PRIMARY KEY,
    last_leaf  BIGINT NOT NULL
);

-- For filters of the audit log. PostgreSQL's is partitioned by month from here on, too.
CREATE INDEX audit_events_by_session ON audit_events (session_id, time, id) WHERE session_id <> '';
CREATE INDEX audit_events_by_api_key ON audit_events (api_key_id, time, id) WHERE api_key_id <> '';
CREATE INDEX audit_events_by_request ON audit_events (request_id, time, id) WHERE request_id <> '';
CREATE INDEX audit_events_by_reason ON audit_events (reason, time, id) WHERE reason <> '';

-- +migrate Down
DROP INDEX audit_events_by_reason;
DROP INDEX audit_events_by_request;
DROP INDEX audit_events_by_api_key;
DROP INDEX audit_events_by_session;
DROP TABLE audit_dropped_leaves;
DROP TABLE audit_pruners;
DROP TABLE audit_holds;
