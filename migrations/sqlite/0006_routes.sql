-- +migrate Up

-- What requests to protected services need. shape is host and path without the
-- names of parameters: routes of the same shape must differ in their methods.
CREATE TABLE routes (
    name          TEXT PRIMARY KEY,
    description   TEXT NOT NULL DEFAULT '',
    host          TEXT NOT NULL DEFAULT '',
    methods       TEXT NOT NULL,
    path          TEXT NOT NULL,
    shape         TEXT NOT NULL,
    permission    TEXT NOT NULL DEFAULT '',
    authenticated SMALLINT NOT NULL DEFAULT 0,
    public        SMALLINT NOT NULL DEFAULT 0,
    resource      TEXT NOT NULL DEFAULT '',
    cost          BIGINT NOT NULL DEFAULT 0,
    upstream      TEXT NOT NULL DEFAULT '',
    context       TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL
);
CREATE INDEX routes_by_shape ON routes (shape);

-- The one row that writers of routes lock, to wait for each other.
CREATE TABLE route_writers (id BIGINT PRIMARY KEY);
INSERT INTO route_writers (id) VALUES (1);

-- +migrate Down
DROP TABLE route_writers;
DROP TABLE routes;
