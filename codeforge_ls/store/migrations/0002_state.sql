-- The state tables: folds of the log. They are filled from it again when they are made anew.
-- refold
-- up
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    stream TEXT NOT NULL,
    base TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    output TEXT NOT NULL,
    step_count INTEGER NOT NULL,
    tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL,
    cost_nano_usd INTEGER NOT NULL,
    unpriced_calls INTEGER NOT NULL,
    created_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX runs_by_age ON runs (created_at);

CREATE INDEX runs_by_status ON runs (status, created_at);

CREATE TRIGGER runs_end_once BEFORE UPDATE ON runs
WHEN OLD.status IN ('completed', 'failed', 'cancelled', 'timeout')
    AND (NEW.status, NEW.reason, NEW.output, NEW.ended_at) IS NOT (OLD.status, OLD.reason, OLD.output, OLD.ended_at)
BEGIN
    SELECT RAISE(ABORT, 'The run has ended; its end is never changed.');
END;

CREATE TRIGGER runs_count_versions BEFORE UPDATE ON runs
WHEN NEW.version IS NOT OLD.version + 1
BEGIN
    SELECT RAISE(ABORT, 'Each change of a run counts its version up by one.');
END;

CREATE TABLE plans (
    id TEXT PRIMARY KEY,
    stream TEXT NOT NULL,
    base TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_at REAL NOT NULL,
    ended_at REAL,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX plans_by_age ON plans (created_at);

CREATE TRIGGER plans_end_once BEFORE UPDATE ON plans
WHEN OLD.status IN ('completed', 'failed', 'cancelled')
    AND (NEW.status, NEW.reason, NEW.ended_at) IS NOT (OLD.status, OLD.reason, OLD.ended_at)
BEGIN
    SELECT RAISE(ABORT, 'The plan has ended; its end is never changed.');
END;

CREATE TRIGGER plans_count_versions BEFORE UPDATE ON plans
WHEN NEW.version IS NOT OLD.version + 1
BEGIN
    SELECT RAISE(ABORT, 'Each change of a plan counts its version up by one.');
END;

CREATE TABLE plan_steps (
    plan_id TEXT NOT NULL REFERENCES plans (id) ON DELETE CASCADE,
    idx INTEGER NOT NULL,
    step TEXT NOT NULL,
    status TEXT NOT NULL,
    run_id TEXT,
    version INTEGER NOT NULL,
    PRIMARY KEY (plan_id, idx)
) WITHOUT ROWID;

CREATE TRIGGER plan_steps_count_versions BEFORE UPDATE ON plan_steps
WHEN NEW.version IS NOT OLD.version + 1
BEGIN
    SELECT RAISE(ABORT, 'Each change of a step counts its version up by one.');
END;

CREATE TABLE approvals (
    id TEXT PRIMARY KEY,
    stream TEXT NOT NULL,
    base TEXT NOT NULL,
    state TEXT NOT NULL,
    answered_by TEXT NOT NULL,
    created_at REAL NOT NULL,
    answered_at REAL,
    version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX approvals_by_state ON approvals (state, created_at);

CREATE TRIGGER approvals_are_used_once BEFORE UPDATE ON approvals
WHEN NOT (
    (OLD.state = 'pending' AND NEW.state IN ('allowed', 'denied'))
    OR (OLD.state = 'allowed' AND NEW.state = 'consumed')
)
BEGIN
    SELECT RAISE(ABORT, 'The approval was answered or used already.');
END;

CREATE TRIGGER approvals_count_versions BEFORE UPDATE ON approvals
WHEN NEW.version IS NOT OLD.version + 1
BEGIN
    SELECT RAISE(ABORT, 'Each change of an approval counts its version up by one.');
END;

CREATE TABLE checkpoints (
    id TEXT PRIMARY KEY,
    stream TEXT NOT NULL,
    base TEXT NOT NULL,
    created_at REAL NOT NULL
) WITHOUT ROWID;

CREATE INDEX checkpoints_by_stream ON checkpoints (stream, created_at);

CREATE TABLE tool_calls (
    stream TEXT NOT NULL,
    seq INTEGER NOT NULL,
    call_id TEXT NOT NULL,
    tool TEXT NOT NULL,
    arguments TEXT NOT NULL,
    action_id TEXT,
    status TEXT NOT NULL,
    approval_id TEXT,
    reason TEXT NOT NULL,
    outcome TEXT,
    duration REAL,
    requested_at REAL NOT NULL,
    ended_at REAL,
    version INTEGER NOT NULL,
    PRIMARY KEY (stream, seq)
) WITHOUT ROWID;

CREATE INDEX tool_calls_by_id ON tool_calls (stream, call_id, seq);

CREATE TRIGGER tool_calls_end_once BEFORE UPDATE ON tool_calls
WHEN OLD.status = 'done' OR (OLD.status = 'denied' AND NEW.status <> 'done')
BEGIN
    SELECT RAISE(ABORT, 'The tool call has ended already.');
END;

CREATE TRIGGER tool_calls_count_versions BEFORE UPDATE ON tool_calls
WHEN NEW.version IS NOT OLD.version + 1
BEGIN
    SELECT RAISE(ABORT, 'Each change of a tool call counts its version up by one.');
END;
-- down
DROP TABLE tool_calls;

DROP TABLE checkpoints;

DROP TABLE approvals;

DROP TABLE plan_steps;

DROP TABLE plans;

DROP TABLE runs;
