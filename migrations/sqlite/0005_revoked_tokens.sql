-- +migrate Up

-- Client-credentials tokens that were revoked by themselves, by their "jti",
-- until they expire.
CREATE TABLE revoked_tokens (
    id         TEXT PRIMARY KEY,
    api_key_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX revoked_tokens_by_key ON revoked_tokens (api_key_id, expires_at);
CREATE INDEX revoked_tokens_by_end ON revoked_tokens (expires_at);

-- +migrate Down
DROP TABLE revoked_tokens;
