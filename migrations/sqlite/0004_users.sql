-- +migrate Up

-- Lists of the disabled users, of whom there are few.
CREATE INDEX users_disabled ON users (id) WHERE disabled_at IS NOT NULL;

-- +migrate Down
DROP INDEX users_disabled;
