-- An owner is the same whatever the case of its letters.
DROP INDEX job_of_owner;
DROP INDEX job_active;
CREATE INDEX job_of_owner ON job (owner COLLATE NOCASE, id) WHERE listed = 1;
CREATE INDEX job_active ON job (owner COLLATE NOCASE) WHERE active = 1;

PRAGMA user_version = 2;
