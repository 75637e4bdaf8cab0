-- +migrate Up

-- Times are Unix microseconds, ids UUIDv7 text, lists and maps JSON text: the
-- same in both dialects, so that one SQL text serves both.

CREATE TABLE users (
    id                       TEXT PRIMARY KEY,
    username                 TEXT NOT NULL UNIQUE,
    display_name             TEXT NOT NULL DEFAULT '',
    kind                     TEXT NOT NULL CHECK (kind IN ('person', 'service')),
    password_hash            TEXT NOT NULL DEFAULT '',
    password_change_required SMALLINT NOT NULL DEFAULT 0,
    disabled_at              BIGINT,
    created_at               BIGINT NOT NULL,
    updated_at               BIGINT NOT NULL
);

-- A session is one family of refresh tokens. token_hash is the newest token's;
-- the hashes of its ancestors are in spent_tokens.
CREATE TABLE sessions (
    id              TEXT PRIMARY KEY,
    user_id         TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    generation      BIGINT NOT NULL,
    token_hash      BYTEA NOT NULL UNIQUE,
    created_at      BIGINT NOT NULL,
    refreshed_at    BIGINT NOT NULL,
    idle_expires_at BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    revoked_at      BIGINT,
    revoked_reason  TEXT NOT NULL DEFAULT '',
    ip              TEXT NOT NULL DEFAULT '',
    user_agent      TEXT NOT NULL DEFAULT ''
);
CREATE INDEX sessions_by_user ON sessions (user_id, id);
CREATE INDEX sessions_by_revocation ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX sessions_by_end ON sessions (idle_expires_at);

CREATE TABLE spent_tokens (
    hash       BYTEA PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    generation BIGINT NOT NULL,
    spent_at   BIGINT NOT NULL
);
CREATE INDEX spent_tokens_by_session ON spent_tokens (session_id);

CREATE TABLE api_keys (
    id           TEXT PRIMARY KEY,
    user_id      TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name         TEXT NOT NULL,
    hash         BYTEA NOT NULL,
    scopes       TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT,
    revoked_at   BIGINT
);
CREATE INDEX api_keys_by_user ON api_keys (user_id, created_at, id);
CREATE INDEX api_keys_by_creation ON api_keys (created_at, id);

-- private_key is sealed under the master key.
CREATE TABLE signing_keys (
    id          TEXT PRIMARY KEY,
    algorithm   TEXT NOT NULL,
    public_key  BYTEA NOT NULL,
    private_key BYTEA NOT NULL,
    created_at  BIGINT NOT NULL,
    active_at   BIGINT NOT NULL,
    retired_at  BIGINT,
    removed_at  BIGINT
);

CREATE TABLE roles (
    name        TEXT COLLATE "C" PRIMARY KEY, -- sorts as in SQLite
    description TEXT NOT NULL DEFAULT '',
    permissions TEXT NOT NULL,
    builtin     SMALLINT NOT NULL DEFAULT 0,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);

CREATE TABLE memberships (
    role        TEXT COLLATE "C" NOT NULL REFERENCES roles (name) ON DELETE CASCADE,
    user_id     TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    assigned_at BIGINT NOT NULL,
    expires_at  BIGINT,
    PRIMARY KEY (role, user_id)
);
CREATE INDEX memberships_by_user ON memberships (user_id, role);

CREATE TABLE limits (
    name        TEXT COLLATE "C" PRIMARY KEY, -- sorts as in SQLite
    description TEXT NOT NULL DEFAULT '',
    subject     TEXT NOT NULL,
    permission  TEXT NOT NULL,
    rate        BIGINT NOT NULL,
    period      BIGINT NOT NULL,
    burst       BIGINT NOT NULL,
    algorithm   TEXT NOT NULL,
    mode        TEXT NOT NULL,
    outage      TEXT NOT NULL,
    context_key TEXT NOT NULL DEFAULT '',
    overrides   TEXT NOT NULL,
    builtin     SMALLINT NOT NULL DEFAULT 0,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);

-- writer is the transaction that recorded the event: the watcher reads only
-- events of transactions older than every one still open, so that it never
-- passes by one that commits late.
CREATE TABLE audit_events (
    id             TEXT PRIMARY KEY,
    position       BIGSERIAL NOT NULL UNIQUE,
    writer         BIGINT NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    time           BIGINT NOT NULL,
    actor_id       TEXT NOT NULL DEFAULT '',
    actor_name     TEXT NOT NULL DEFAULT '',
    session_id     TEXT NOT NULL DEFAULT '',
    api_key_id     TEXT NOT NULL DEFAULT '',
    action         TEXT COLLATE "C" NOT NULL, -- compared as bytes, for filters by prefix
    outcome        TEXT NOT NULL,
    reason         TEXT NOT NULL DEFAULT '',
    resource       TEXT NOT NULL DEFAULT '',
    ip             TEXT NOT NULL DEFAULT '',
    user_agent     TEXT NOT NULL DEFAULT '',
    request_id     TEXT NOT NULL DEFAULT '',
    details        TEXT NOT NULL DEFAULT '{}',
    recorded_by    TEXT NOT NULL DEFAULT ''
);
CREATE INDEX audit_events_by_time ON audit_events (time, id);
CREATE INDEX audit_events_by_actor ON audit_events (actor_id, time, id);
CREATE INDEX audit_events_by_action ON audit_events (action, time, id);
CREATE INDEX audit_events_by_actor_name ON audit_events (actor_name, time, id);
CREATE INDEX audit_events_by_resource ON audit_events (resource, time, id);
CREATE INDEX audit_events_by_outcome ON audit_events (outcome, time, id);
CREATE INDEX audit_events_by_writer ON audit_events (writer, position);

-- change_head has one row. Taking the next revision locks it until the commit,
-- so revisions have no gaps and become visible in their order.
CREATE TABLE change_head (
    id       SMALLINT PRIMARY KEY CHECK (id = 1),
    revision BIGINT NOT NULL
);
INSERT INTO change_head (id, revision) VALUES (1, 0);

CREATE TABLE changes (
    revision BIGINT NOT NULL,
    position INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    subject  TEXT NOT NULL,
    at       BIGINT NOT NULL,
    PRIMARY KEY (revision, position)
);
CREATE INDEX changes_by_time ON changes (at);

-- +migrate Down
DROP TABLE changes;
DROP TABLE change_head;
DROP TABLE audit_events;
DROP TABLE limits;
DROP TABLE memberships;
DROP TABLE roles;
DROP TABLE signing_keys;
DROP TABLE api_keys;
DROP TABLE spent_tokens;
DROP TABLE sessions;
DROP TABLE users;
