-- +migrate Up

-- Names are compared as bytes, as in SQLite: the index on them then serves lists
-- of those with a prefix, whatever the database's collation. Only indexes are
-- built anew.
ALTER TABLE users ALTER COLUMN username TYPE TEXT COLLATE "C";

-- Lists of the disabled users, of whom there are few.
CREATE INDEX users_disabled ON users (id) WHERE disabled_at IS NOT NULL;

-- +migrate Down
DROP INDEX users_disabled;
ALTER TABLE users ALTER COLUMN username TYPE TEXT COLLATE "default";
