-- +migrate Up

-- A person's second factor (TOTP). The secret is sealed under the master key;
-- last_step is the time step of the newest code that was accepted, so that none
-- is accepted twice.
CREATE TABLE second_factors (
    user_id      TEXT PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    secret       BYTEA NOT NULL,
    created_at   BIGINT NOT NULL,
    confirmed_at BIGINT,
    last_step    BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE recovery_codes (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash    BYTEA NOT NULL,
    used_at BIGINT,
    PRIMARY KEY (user_id, hash)
);

-- The id of the key that a key was rotated to.
ALTER TABLE api_keys ADD COLUMN replaced_by TEXT NOT NULL DEFAULT '';

-- +migrate Down
ALTER TABLE api_keys DROP COLUMN replaced_by;
DROP TABLE recovery_codes;
DROP TABLE second_factors;
