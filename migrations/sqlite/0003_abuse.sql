-- +migrate Up

-- The audience of the access tokens that a service account accepts; empty: the
-- server's own.
ALTER TABLE users ADD COLUMN audience TEXT NOT NULL DEFAULT '';

-- The audience that the session's access tokens are for, empty for the server's
-- own, and whether the sign-in took a second factor.
ALTER TABLE sessions ADD COLUMN audience TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN second_factor SMALLINT NOT NULL DEFAULT 0;

-- What limits count the session's address under: the IPv4 address, the IPv6
-- /64. Sessions from before have it from their next refresh on.
ALTER TABLE sessions ADD COLUMN network TEXT NOT NULL DEFAULT '';
CREATE INDEX sessions_by_network ON sessions (user_id, network);

-- Who created a key: the user, and the API key if the call was made with one.
ALTER TABLE api_keys ADD COLUMN created_by TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN created_by_key TEXT NOT NULL DEFAULT '';

-- Attempts are now counted per user and address first; the bound for a user at
-- all addresses together is higher, unless an operator has changed it.
UPDATE limits SET rate = 100, burst = 100, description = 'Sign-ins as one user from all addresses together.'
WHERE name = 'sign-in-per-user' AND builtin = 1 AND algorithm = 'backoff' AND rate = 10 AND burst = 10
    AND updated_at = created_at;

-- When what the limit had counted was forgotten, for all keys at once.
ALTER TABLE limits ADD COLUMN reset_at BIGINT NOT NULL DEFAULT 0;

-- +migrate Down
ALTER TABLE limits DROP COLUMN reset_at;
-- Limits for each user at each address.
DELETE FROM limits WHERE subject = 'user' AND context_key = 'ip';
UPDATE limits SET rate = 10, burst = 10, description = 'Sign-ins as one user.'
WHERE name = 'sign-in-per-user' AND builtin = 1 AND algorithm = 'backoff' AND rate = 100 AND burst = 100
    AND updated_at = created_at;
ALTER TABLE api_keys DROP COLUMN created_by_key;
ALTER TABLE api_keys DROP COLUMN created_by;
DROP INDEX sessions_by_network;
ALTER TABLE sessions DROP COLUMN network;
ALTER TABLE sessions DROP COLUMN second_factor;
ALTER TABLE sessions DROP COLUMN audience;
ALTER TABLE users DROP COLUMN audience;
