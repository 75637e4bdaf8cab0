-- +migrate Up

-- How far each sink of the audit log has come. next_leaf is the first leaf that is not
-- confirmed; leaves from it up to until_leaf may have been sent. One instance at a time,
-- holder, drives a sink, until held_until.
CREATE TABLE audit_sinks (
    name          TEXT PRIMARY KEY,
    next_leaf     BIGINT NOT NULL,
    until_leaf    BIGINT NOT NULL,
    skipped       BIGINT NOT NULL DEFAULT 0,
    confirmed_at  BIGINT NOT NULL,
    failing_since BIGINT,
    holder        TEXT NOT NULL DEFAULT '',
    held_until    BIGINT NOT NULL DEFAULT 0
);

-- +migrate Down
DROP TABLE audit_sinks;
