-- +migrate Up

-- The keys that sign checkpoints of the audit log. id is the eight hex digits that C2SP's
-- signed notes name a key by; private_key is sealed by the master key.
CREATE TABLE audit_keys (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    public_key  BYTEA NOT NULL,
    private_key BYTEA NOT NULL,
    created_at  BIGINT NOT NULL,
    retired_at  BIGINT
);

-- audit_head has one row: how many events are in the tree, and after which event of the
-- log (writer, position) the sequencer goes on. Who sequences holds its lock.
-- Only events whose position is above floor are to come; see server/internal/audit.
CREATE TABLE audit_head (
    id       SMALLINT PRIMARY KEY CHECK (id = 1),
    size     BIGINT NOT NULL,
    writer   BIGINT NOT NULL,
    position BIGINT NOT NULL,
    floor    BIGINT NOT NULL
);
INSERT INTO audit_head (id, size, writer, position, floor) VALUES (1, 0, 0, 0, 0);

-- The place of each event in the tree, from 0 on without gaps. The row goes with its
-- event: without the salt the leaf's hash says nothing about what the event was.
-- address is the event's address in hex of one width: 4 and 8 digits, or 6 and 32.
CREATE TABLE audit_leaves (
    leaf     BIGINT PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    time     BIGINT NOT NULL,
    salt     BYTEA NOT NULL,
    address  TEXT COLLATE "C" NOT NULL DEFAULT ''
);
CREATE INDEX audit_leaves_by_address ON audit_leaves (address, time, event_id) WHERE address <> '';

-- The tree's hashes (RFC 6962) in tiles of up to 256 (C2SP tlog-tiles), for good.
CREATE TABLE audit_tiles (
    level SMALLINT NOT NULL,
    n     BIGINT NOT NULL,
    data  BYTEA NOT NULL,
    PRIMARY KEY (level, n)
);

-- Signed checkpoints (C2SP tlog-checkpoint): each says what the first size events are.
CREATE TABLE audit_checkpoints (
    size BIGINT PRIMARY KEY,
    at   BIGINT NOT NULL,
    note TEXT NOT NULL
);

-- +migrate Down
DROP TABLE audit_checkpoints;
DROP TABLE audit_tiles;
DROP TABLE audit_leaves;
DROP TABLE audit_head;
DROP TABLE audit_keys;
