-- Idempotency keys of calls, and what they were answered, for a day: no part of the log and no fold of it.
-- passing
-- up
CREATE TABLE reservations (
    operation TEXT NOT NULL,
    caller TEXT NOT NULL,
    key TEXT NOT NULL,
    arguments TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'done')),
    answer TEXT,
    bytes INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,
    PRIMARY KEY (operation, caller, key)
);

CREATE INDEX reservations_by_age ON reservations (created_at);
-- down
DROP TABLE reservations;
