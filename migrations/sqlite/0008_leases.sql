-- +migrate Up

-- How long a call may be used after it was counted, in microseconds; 0: at once. A
-- server of the version before counts such a limit with its whole burst.
ALTER TABLE limits ADD COLUMN lease BIGINT NOT NULL DEFAULT 0;

-- +migrate Down
ALTER TABLE limits DROP COLUMN lease;
