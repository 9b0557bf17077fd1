-- One store per file. Nothing here is believed before a replica verified it; see docs/reference/format.md.

-- One signature each, over the statements `first` to `last`; `chain` is chain(last).
CREATE TABLE batches (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL,
    chain BLOB NOT NULL,
    sign1 BLOB NOT NULL
) STRICT;

CREATE TABLE statements (
    n INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

-- Which heads were advanced already, and by the batch that starts where: an index over the statements' advances.
-- Most statements are the first of their subject, so 32 zero bytes are stored as none.
CREATE TABLE heads (
    subject BLOB NOT NULL,
    prev BLOB NOT NULL,
    batch INTEGER NOT NULL,
    PRIMARY KEY (subject, prev)
) STRICT, WITHOUT ROWID;

-- Rows in the order of their arrival, found through an index of digests: a tree ordered by digest would be rewritten
-- from end to end with every large batch. No row is ever removed: what is destroyed is overwritten where it lies, since
-- a tree that closes its gaps leaves copies of the rows that it moves, out of reach of any later overwriting.
CREATE TABLE sealed (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    destroyed INTEGER NOT NULL,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE access (
    n INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    device TEXT NOT NULL,
    uid INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    exe TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    chain BLOB NOT NULL
) STRICT;

CREATE INDEX access_by_device ON access (device);

-- Who is rotating a token, and until when (ms since 1970). A courtesy: nothing is allowed or refused because of it.
CREATE TABLE leases (
    token BLOB PRIMARY KEY,
    holder TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How many of a device's lines were dropped from the beginning of the access log, and the chain after the last of them.
CREATE TABLE access_dropped (
    device TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    chain BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The newest checkpoint of each witness: a COSE_Sign1.
CREATE TABLE checkpoints (
    device BLOB PRIMARY KEY,
    sign1 BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- What a repair took out of the tables above. No types and no keys: these rows may hold anything.
CREATE TABLE set_aside_batches (first, last, chain, sign1);

CREATE TABLE set_aside_statements (n, bytes);

CREATE TABLE set_aside_heads (subject, prev, batch);

CREATE TABLE set_aside_checkpoints (device, sign1);
