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
    UNIQUE (digest, language, version)
);
CREATE TABLE source (content INTEGER PRIMARY KEY, text BLOB NOT NULL);  -- zlib of the UTF-8 text
-- The chunks of a content and the words in each: extract.py says how they are packed.
CREATE TABLE bag (content INTEGER PRIMARY KEY, chunks BLOB NOT NULL, words BLOB NOT NULL);
-- The names a content uses (ids, 32 bits each), how many places each has, the places, imports, and what it defines:
-- see extract.py. Read it through records.py. Definitions are looked up in the code graph, so they need no index here.
CREATE TABLE use (
    content INTEGER PRIMARY KEY, names BLOB NOT NULL, counts BLOB NOT NULL, imports BLOB NOT NULL,
    places BLOB NOT NULL, symbols TEXT NOT NULL
);
CREATE TABLE name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);

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
