-- Job records: the document itself, and beside it what is searched for.
CREATE TABLE job (
    id         TEXT    NOT NULL PRIMARY KEY,  -- the video's id, 24 hex digits
    version    INTEGER NOT NULL,              -- the compare in compare-and-swap
    owner      TEXT    NOT NULL,
    listed     INTEGER NOT NULL,              -- 1 until the owner deletes it
    active     INTEGER NOT NULL,              -- 1 until it ends
    mp3_fid    TEXT    UNIQUE,
    convert_at INTEGER,                       -- when each task falls due, milliseconds since 1970; NULL: not at all
    publish_at INTEGER,
    mail_at    INTEGER,
    sweep_at   INTEGER,
    record     TEXT    NOT NULL               -- the record, JSON
) STRICT, WITHOUT ROWID;

CREATE INDEX job_of_owner ON job (owner, id) WHERE listed = 1;
CREATE INDEX job_active ON job (owner) WHERE active = 1;
CREATE INDEX job_to_convert ON job (convert_at) WHERE convert_at IS NOT NULL;
CREATE INDEX job_to_publish ON job (publish_at) WHERE publish_at IS NOT NULL;
CREATE INDEX job_to_mail ON job (mail_at) WHERE mail_at IS NOT NULL;
CREATE INDEX job_to_sweep ON job (sweep_at) WHERE sweep_at IS NOT NULL;

-- Users, as the original services' table has them, and what they may do.
CREATE TABLE user (
    id       INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    email    TEXT    NOT NULL UNIQUE COLLATE NOCASE,
    password TEXT    NOT NULL,                -- an Argon2id PHC string
    role     TEXT    NOT NULL CHECK (role IN ('user', 'admin'))
) STRICT;

PRAGMA user_version = 1;
