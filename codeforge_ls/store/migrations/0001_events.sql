-- The append-only log: events that are never changed, one hash chain per stream, and the heads of the streams.
-- up
CREATE TABLE events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    stream TEXT NOT NULL,
    seq INTEGER NOT NULL,
    id TEXT NOT NULL UNIQUE,
    parent TEXT,
    type TEXT NOT NULL,
    payload TEXT NOT NULL,
    actor TEXT NOT NULL,
    request_id TEXT,
    time REAL NOT NULL,
    schema_version INTEGER NOT NULL,
    prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL,
    run_id TEXT GENERATED ALWAYS AS (CASE WHEN substr(stream, 1, 4) = 'run:' THEN substr(stream, 5) END) VIRTUAL,
    UNIQUE (stream, seq)
);

CREATE INDEX events_by_run ON events (run_id, position) WHERE run_id IS NOT NULL;

CREATE INDEX events_by_type ON events (type, position);

CREATE INDEX events_by_request ON events (request_id, position) WHERE request_id IS NOT NULL;

CREATE TABLE streams (
    stream TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    hash TEXT NOT NULL,
    first_time REAL NOT NULL,
    last_time REAL NOT NULL
) WITHOUT ROWID;

CREATE INDEX streams_by_age ON streams (last_time);

-- A row here exists only inside the transaction of the audited drop; it lets the events of that stream go.
CREATE TABLE drop_grants (stream TEXT PRIMARY KEY) WITHOUT ROWID;

CREATE TRIGGER workspace_is_never_dropped BEFORE INSERT ON drop_grants
WHEN NEW.stream = 'workspace'
BEGIN
    SELECT RAISE(ABORT, 'The stream of the workspace is never dropped.');
END;

CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'Events are append-only: they are never changed.');
END;

CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
WHEN NOT EXISTS (SELECT 1 FROM drop_grants WHERE stream = OLD.stream)
BEGIN
    SELECT RAISE(ABORT, 'Events are append-only: they are never deleted.');
END;

-- INSERT OR REPLACE fires no delete trigger, so what it would replace is refused here; a gap and a foreign hash too.
CREATE TRIGGER events_follow_their_chain BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE id = NEW.id OR position = NEW.position)
    OR NEW.seq IS NOT coalesce((SELECT seq FROM streams WHERE stream = NEW.stream), 0) + 1
    OR NEW.prev_hash IS NOT coalesce((SELECT hash FROM streams WHERE stream = NEW.stream), '')
BEGIN
    SELECT RAISE(ABORT, 'This event is in the log already, or does not follow the last one of its stream.');
END;
-- down
DROP TABLE events;

DROP TABLE streams;

DROP TABLE drop_grants;
