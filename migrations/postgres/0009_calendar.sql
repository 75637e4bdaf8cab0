-- +migrate Up

-- What a limit of the algorithm "calendar" counts anew with, and in which time zone. A
-- server of the version before counts such a limit in periods that begin at UTC's.
ALTER TABLE limits ADD COLUMN calendar TEXT NOT NULL DEFAULT '';
ALTER TABLE limits ADD COLUMN time_zone TEXT NOT NULL DEFAULT '';

-- +migrate Down
ALTER TABLE limits DROP COLUMN time_zone;
ALTER TABLE limits DROP COLUMN calendar;
