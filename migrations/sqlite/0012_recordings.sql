-- +migrate Up

-- Which allowed calls are recorded: sample of a million, of those that the pattern
-- matches.
CREATE TABLE recordings (
    name        TEXT PRIMARY KEY,
    description TEXT NOT NULL DEFAULT '',
    permission  TEXT NOT NULL,
    sample      BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);

-- The one row that writers of recordings lock, to wait for each other, and the secret
-- that decides which calls are in a sample.
CREATE TABLE recording_seed (id BIGINT PRIMARY KEY, seed TEXT NOT NULL);
INSERT INTO recording_seed (id, seed) VALUES (1, lower(hex(randomblob(16))));

-- +migrate Down
DROP TABLE recording_seed;
DROP TABLE recordings;
