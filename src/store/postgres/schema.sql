-- One store per database. Nothing here is believed before a replica verified it; see docs/reference/format.md.
-- Positions come from no sequence, and nothing takes an advisory lock or needs LISTEN: see docs/howto/fleet.md.

CREATE SCHEMA strongroom;

-- The version of these tables.
CREATE TABLE strongroom.format (
    version BIGINT NOT NULL PRIMARY KEY
);

-- A writer names the number that it has read, and raises it: who comes second finds another number, and begins again.
CREATE TABLE strongroom.changes (
    part TEXT NOT NULL PRIMARY KEY,
    n BIGINT NOT NULL
);

-- One signature each, over the statements `first` to `last`; `chain` is chain(last).
CREATE TABLE strongroom.batches (
    first BIGINT NOT NULL PRIMARY KEY,
    last BIGINT NOT NULL,
    chain BYTEA NOT NULL,
    sign1 BYTEA NOT NULL
);

CREATE TABLE strongroom.statements (
    n BIGINT NOT NULL PRIMARY KEY,
    bytes BYTEA NOT NULL
);

-- Which heads were advanced already, and by the batch that starts where: an index over the statements' advances.
CREATE TABLE strongroom.heads (
    subject BYTEA NOT NULL,
    prev BYTEA NOT NULL,
    batch BIGINT NOT NULL,
    PRIMARY KEY (subject, prev)
);

CREATE TABLE strongroom.sealed (
    digest BYTEA NOT NULL PRIMARY KEY,
    destroyed BOOLEAN NOT NULL,
    bytes BYTEA NOT NULL
);

CREATE TABLE strongroom.access (
    n BIGINT NOT NULL PRIMARY KEY,
    time BIGINT NOT NULL,
    device TEXT NOT NULL,
    uid BIGINT NOT NULL,
    pid BIGINT NOT NULL,
    exe TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    chain BYTEA NOT NULL
);

CREATE INDEX access_by_device ON strongroom.access (device, n);

-- How many of a device's lines were dropped from the beginning of the access log, and the chain after the last of them.
CREATE TABLE strongroom.access_dropped (
    device TEXT NOT NULL PRIMARY KEY,
    count BIGINT NOT NULL,
    chain BYTEA NOT NULL
);

-- Who is rotating a token, and until when (ms since 1970). A courtesy: nothing is allowed or refused because of it.
CREATE TABLE strongroom.leases (
    token BYTEA NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    until BIGINT NOT NULL
);

-- The newest checkpoint of each witness: a COSE_Sign1.
CREATE TABLE strongroom.checkpoints (
    device BYTEA NOT NULL PRIMARY KEY,
    sign1 BYTEA NOT NULL
);

-- Which devices, by their ids in hex, a user of the database may write access-log lines and checkpoints for.
CREATE TABLE strongroom.clients (
    role TEXT NOT NULL,
    device TEXT NOT NULL,
    PRIMARY KEY (role, device)
);

-- What a repair took out of the tables above. No keys: there may be several of the same.
CREATE TABLE strongroom.set_aside_batches (first BIGINT, last BIGINT, chain BYTEA, sign1 BYTEA);

CREATE TABLE strongroom.set_aside_statements (n BIGINT, bytes BYTEA);

CREATE TABLE strongroom.set_aside_heads (subject BYTEA, prev BYTEA, batch BIGINT);

CREATE TABLE strongroom.set_aside_checkpoints (device BYTEA, sign1 BYTEA);

INSERT INTO strongroom.format (version) VALUES (1);

INSERT INTO strongroom.changes (part, n) VALUES ('ledger', 0), ('access', 0);

-- Appends a batch as statements `a_first` and following, if the ledger is what `a_expected` was read from. It runs with
-- the owner's rights: the only way in which a writer changes the ledger.
CREATE FUNCTION strongroom.append(
    a_expected BIGINT,
    a_first BIGINT,
    a_statements BYTEA[],
    a_chain BYTEA,
    a_sign1 BYTEA,
    a_subjects BYTEA[],
    a_prevs BYTEA[],
    a_digests BYTEA[],
    a_sealed BYTEA[],
    a_destroyed BYTEA[]
) RETURNS BOOLEAN LANGUAGE plpgsql SECURITY DEFINER SET search_path = strongroom, pg_temp AS $$
BEGIN
    -- A commit that no standby has confirmed says so in a warning: nobody may have turned warnings off.
    PERFORM set_config('client_min_messages', 'warning', true);
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    UPDATE changes SET n = n + 1 WHERE part = 'ledger' AND n = a_expected;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO statements (n, bytes)
        SELECT a_first + s.i - 1, s.bytes FROM unnest(a_statements) WITH ORDINALITY AS s (bytes, i);
    INSERT INTO batches (first, last, chain, sign1)
        VALUES (a_first, a_first + cardinality(a_statements) - 1, a_chain, a_sign1);
    INSERT INTO heads (subject, prev, batch)
        SELECT h.subject, h.prev, a_first FROM unnest(a_subjects, a_prevs) AS h (subject, prev);
    -- An existing row was quarantined or planted. Bytes that match their digest are never worse.
    INSERT INTO sealed (digest, destroyed, bytes)
        SELECT s.digest, false, s.bytes FROM unnest(a_digests, a_sealed) AS s (digest, bytes)
        ON CONFLICT (digest) DO UPDATE SET destroyed = false, bytes = excluded.bytes;
    UPDATE sealed SET destroyed = true, bytes = '' WHERE digest = ANY (a_destroyed);
    RETURN true;
END $$;

-- Releases advances of statements without effect, if the ledger is what `a_expected` was read from.
CREATE FUNCTION strongroom.release(a_expected BIGINT, a_subjects BYTEA[], a_prevs BYTEA[])
RETURNS BOOLEAN LANGUAGE plpgsql SECURITY DEFINER SET search_path = strongroom, pg_temp AS $$
BEGIN
    UPDATE changes SET n = n + 1 WHERE part = 'ledger' AND n = a_expected;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM heads WHERE (subject, prev) IN (SELECT h.subject, h.prev FROM unnest(a_subjects, a_prevs) AS h (subject, prev));
    RETURN true;
END $$;

-- Whether the user who is logged in may speak for this device.
CREATE FUNCTION strongroom.speaks_for(a_device TEXT)
RETURNS BOOLEAN LANGUAGE plpgsql SECURITY DEFINER SET search_path = strongroom, pg_temp AS $$
BEGIN
    RETURN pg_has_role(session_user, current_user, 'MEMBER')
        OR EXISTS (SELECT 1 FROM clients WHERE role = session_user AND device = a_device);
END $$;

-- Appends lines to the access log, if the chains of `a_devices` end at `a_ends`.
CREATE FUNCTION strongroom.record(
    a_devices TEXT[],
    a_ends BYTEA[],
    a_time BIGINT[],
    a_device TEXT[],
    a_uid BIGINT[],
    a_pid BIGINT[],
    a_exe TEXT[],
    a_name TEXT[],
    a_version BIGINT[],
    a_outcome TEXT[],
    a_chain BYTEA[]
) RETURNS BOOLEAN LANGUAGE plpgsql SECURITY DEFINER SET search_path = strongroom, pg_temp AS $$
DECLARE
    at BIGINT;
    other TEXT;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT d INTO other FROM unnest(a_devices || a_device) AS d
        WHERE d <> '' AND NOT speaks_for(d) LIMIT 1;
    IF FOUND THEN
        RAISE insufficient_privilege USING MESSAGE = 'the user ' || session_user || ' writes no lines for the device ' || other;
    END IF;
    -- One after the other.
    PERFORM 1 FROM changes WHERE part = 'access' FOR UPDATE;
    IF EXISTS (
        SELECT 1 FROM unnest(a_devices, a_ends) AS e (device, chain)
        WHERE e.chain <> coalesce(
            (SELECT a.chain FROM access a WHERE a.device = e.device ORDER BY a.n DESC LIMIT 1),
            (SELECT d.chain FROM access_dropped d WHERE d.device = e.device),
            decode(repeat('00', 32), 'hex'))
    ) THEN
        RETURN false;
    END IF;
    SELECT coalesce(max(n), 0) INTO at FROM access;
    INSERT INTO access (n, time, device, uid, pid, exe, name, version, outcome, chain)
        SELECT at + l.i, l.time, l.device, l.uid, l.pid, l.exe, l.name, l.version, l.outcome, l.chain
        FROM unnest(a_time, a_device, a_uid, a_pid, a_exe, a_name, a_version, a_outcome, a_chain)
            WITH ORDINALITY AS l (time, device, uid, pid, exe, name, version, outcome, chain, i);
    RETURN true;
END $$;

-- Stores a device's checkpoint in the place of the one before.
CREATE FUNCTION strongroom.put_checkpoint(a_device BYTEA, a_sign1 BYTEA)
RETURNS BOOLEAN LANGUAGE plpgsql SECURITY DEFINER SET search_path = strongroom, pg_temp AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    IF NOT speaks_for(encode(a_device, 'hex')) THEN
        RAISE insufficient_privilege
            USING MESSAGE = 'the user ' || session_user || ' stores no checkpoint of the device ' || encode(a_device, 'hex');
    END IF;
    INSERT INTO checkpoints (device, sign1) VALUES (a_device, a_sign1)
        ON CONFLICT (device) DO UPDATE SET sign1 = excluded.sign1;
    RETURN true;
END $$;

-- Nobody calls these, or sees these tables, who was not granted it.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA strongroom FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA strongroom FROM PUBLIC;
