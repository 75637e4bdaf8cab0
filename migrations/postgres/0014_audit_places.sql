-- +migrate Up

-- Only SQLite's schema changes.

-- +migrate Down
