-- +migrate Up

-- What a role allows or denies besides its permissions, which are its unconditional
-- allows, and the roles that it inherits. A server of the version before goes by the
-- permissions alone.
ALTER TABLE roles ADD COLUMN grants TEXT NOT NULL DEFAULT '[]';
ALTER TABLE roles ADD COLUMN inherits TEXT NOT NULL DEFAULT '[]';

-- What conditions read: of users, a JSON object, and of what calls are about.
ALTER TABLE users ADD COLUMN attributes TEXT NOT NULL DEFAULT '{}';
CREATE TABLE resources (
    type       TEXT COLLATE "C" NOT NULL,
    id         TEXT COLLATE "C" NOT NULL,
    attributes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (type, id)
);

-- +migrate Down
DROP TABLE resources;
ALTER TABLE users DROP COLUMN attributes;
ALTER TABLE roles DROP COLUMN inherits;
ALTER TABLE roles DROP COLUMN grants;
