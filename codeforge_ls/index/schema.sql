-- index.db: everything can be rebuilt from the workspace, so a damaged or older file is put aside, never migrated.
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- What was read out of one content, whatever files have it: touching, renaming and switching branches cost no parse.
CREATE TABLE content (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice: readers and segments remember ids
    digest TEXT NOT NULL,
    language TEXT NOT NULL,
    version TEXT NOT NULL,
    lines INTEGER NOT NULL,
    symbols INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    text BLOB NOT NULL,    -- zlib of the UTF-8 text
    tokens BLOB NOT NULL,  -- zlib; a line for each chunk, its tokens with repeats between blanks
    UNIQUE (digest, language, version)
);
CREATE TABLE symbol (
    content INTEGER NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, start_line INTEGER NOT NULL,
    end_line INTEGER NOT NULL, name_line INTEGER NOT NULL, name_column INTEGER NOT NULL,
    scope TEXT NOT NULL, signature TEXT NOT NULL
);
CREATE INDEX symbol_name ON symbol (name COLLATE NOCASE);
CREATE INDEX symbol_content ON symbol (content);
-- One row for each name a content uses; places is a JSON list of [kind, line, column].
CREATE TABLE reference (content INTEGER NOT NULL, name TEXT NOT NULL, count INTEGER NOT NULL, places TEXT NOT NULL);
CREATE INDEX reference_name ON reference (name);
CREATE INDEX reference_content ON reference (content);
CREATE TABLE import (content INTEGER NOT NULL, module TEXT NOT NULL, line INTEGER NOT NULL);
CREATE INDEX import_content ON import (content);
CREATE TABLE chunk (
    content INTEGER NOT NULL, ordinal INTEGER NOT NULL, start_line INTEGER NOT NULL, end_line INTEGER NOT NULL,
    symbol TEXT NOT NULL, kind TEXT NOT NULL, PRIMARY KEY (content, ordinal)
) WITHOUT ROWID;

-- Files on disk; content is NULL for one that was looked at and refused.
CREATE TABLE file (
    path TEXT PRIMARY KEY, content INTEGER, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX file_content ON file (content);
-- Unsaved texts of open documents: they hide the file of the same path.
CREATE TABLE overlay (path TEXT PRIMARY KEY, content INTEGER NOT NULL) WITHOUT ROWID;
CREATE VIEW present (path, content) AS
    SELECT path, content FROM overlay
    UNION ALL
    SELECT path, content FROM file WHERE content IS NOT NULL AND path NOT IN (SELECT path FROM overlay);
-- Which paths changed in which generation; readers follow it, a new base segment empties it.
CREATE TABLE change (generation INTEGER NOT NULL, path TEXT NOT NULL);
CREATE INDEX change_generation ON change (generation);

CREATE TABLE skipped (path TEXT PRIMARY KEY, reason TEXT NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE quarantine (digest TEXT PRIMARY KEY, path TEXT NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
