-- +migrate Up

-- Events are found by their position alone, which is the table's own key.
DROP INDEX audit_events_by_writer;

-- +migrate Down
CREATE INDEX audit_events_by_writer ON audit_events (writer, position);
