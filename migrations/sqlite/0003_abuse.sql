-- +migrate Up

-- The audience of the access tokens that a service account accepts; empty: the
-- server's own.
ALTER TABLE users ADD COLUMN audience TEXT NOT NULL DEFAULT '';

-- The audience that the session's access tokens are for, empty for the server's
-- own, and whether the sign-in took a second factor.
ALTER TABLE sessions ADD COLUMN audience TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN second_factor SMALLINT NOT NULL DEFAULT 0;

-- Who created a key: the user, and the API key if the call was made with one.
ALTER TABLE api_keys ADD COLUMN created_by TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN created_by_key TEXT NOT NULL DEFAULT '';

-- Attempts are now counted per user and address first; the bound for a user at
-- all addresses together is higher, unless an operator has changed it.
UPDATE limits SET rate = 100, burst = 100, description = 'Sign-ins as one user from all addresses together.'
WHERE name = 'sign-in-per-user' AND builtin = 1 AND algorithm = 'backoff' AND rate = 10 AND burst = 10
    AND updated_at = created_at;

-- +migrate Down
UPDATE limits SET rate = 10, burst = 10, description = 'Sign-ins as one user.'
WHERE name = 'sign-in-per-user' AND builtin = 1 AND algorithm = 'backoff' AND rate = 100 AND burst = 100
    AND updated_at = created_at;
ALTER TABLE api_keys DROP COLUMN created_by_key;
ALTER TABLE api_keys DROP COLUMN created_by;
ALTER TABLE sessions DROP COLUMN second_factor;
ALTER TABLE sessions DROP COLUMN audience;
ALTER TABLE users DROP COLUMN audience;
