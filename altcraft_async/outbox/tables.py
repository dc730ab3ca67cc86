"""The outbox's tables in PostgreSQL, and the statements on them.

``entry`` is only appended to and deleted from: nothing in it is ever updated; each row names the transaction that
appended it, by which those are found that can only be seen after higher ids. ``bucket`` has the leases, ``drainer``
who delivers, ``dead`` the dead letters, ``meta`` the version of all this. All times are the server's.

A server that lost its last commits, or that was restored from a copy, gives ids again that were given before. So what
ends an entry names it by its request id too, which another entry never has.
"""

from __future__ import annotations

import re

import attrs

from altcraft_async.errors import ConfigurationError

__all__ = ["ANOTHER_CHANGE", "VERSION", "Tables"]

VERSION = 2
"""The version of the tables that this release makes and knows."""

_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_MOST_BUCKETS = 1024
_COLUMNS = "order_external_id, order_line_external_id, status_external_id, request_id, traceparent"

_MOVABLE = 10_000
"""The most rows that are kept in memory while their table is made anew: some tens of milliseconds."""

_TWICE = """ON CONFLICT (request_id) DO UPDATE SET status_external_id = CAST(CAST(
    'the request_id ' || excluded.request_id || ' waits for another change' AS integer) AS text)
    WHERE (entry.order_external_id, entry.order_line_external_id, entry.status_external_id)
    IS DISTINCT FROM (excluded.order_external_id, excluded.order_line_external_id, excluded.status_external_id)"""
"""What a put under an id that waits does: nothing for the same change, and for another an error with these words."""

ANOTHER_CHANGE = "22P02"
"""The code of that error: nothing else in a put is read as a number."""

_MADE = """
CREATE SCHEMA IF NOT EXISTS {s};
CREATE TABLE {s}.meta (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), version integer NOT NULL, buckets integer NOT NULL, target text
);
CREATE TABLE {s}.entry (
    bucket smallint NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1), order_external_id text NOT NULL,
    order_line_external_id text NOT NULL, status_external_id text NOT NULL, request_id text NOT NULL,
    put_at timestamptz NOT NULL DEFAULT clock_timestamp(), xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    traceparent text, PRIMARY KEY (bucket, id), UNIQUE (request_id)
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000
);
CREATE INDEX entry_of_transaction ON {s}.entry (xid);
CREATE TABLE {s}.dead (
    id bigint PRIMARY KEY, bucket smallint NOT NULL, order_external_id text NOT NULL,
    order_line_external_id text NOT NULL, status_external_id text NOT NULL, request_id text NOT NULL,
    put_at timestamptz NOT NULL, state text NOT NULL, reason text NOT NULL, attempts integer NOT NULL,
    died_at timestamptz NOT NULL DEFAULT clock_timestamp(), overtaken boolean NOT NULL DEFAULT false,
    traceparent text
);
CREATE INDEX dead_of_line ON {s}.dead (order_external_id, order_line_external_id);
CREATE TABLE {s}.bucket (
    bucket smallint PRIMARY KEY, owner uuid, epoch bigint NOT NULL DEFAULT 0, expires_at timestamptz
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
INSERT INTO {s}.bucket (bucket) SELECT generate_series(0, {buckets} - 1);
CREATE TABLE {s}.drainer (id uuid PRIMARY KEY, seen_at timestamptz NOT NULL, host text NOT NULL, pid integer NOT NULL)
    WITH (fillfactor = 20);
INSERT INTO {s}.meta (version, buckets) VALUES ({version}, {buckets});
"""


_GRANTS = """
-- A role that puts and delivers, and does not own these, needs:
--   GRANT USAGE ON SCHEMA {s} TO ROLE;
--   GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA {s} TO ROLE;
-- One that only puts needs, instead of the second:
--   GRANT SELECT ON ALL TABLES IN SCHEMA {s} TO ROLE;
--   GRANT INSERT, UPDATE ON {s}.entry TO ROLE;
"""

_TRACED = """
ALTER TABLE {s}.entry ADD COLUMN IF NOT EXISTS traceparent text;
ALTER TABLE {s}.dead ADD COLUMN IF NOT EXISTS traceparent text;
UPDATE {s}.meta SET version = 2 WHERE version = 1;
"""

_UPGRADES = {1: _TRACED}
"""What brings the tables of an older version to the next; those of the older release go on with what they know."""


@attrs.frozen
class Tables:
    """The tables in one schema, made for so many buckets. Raises `ConfigurationError` for what cannot be."""

    schema: str
    buckets: int

    def __attrs_post_init__(self) -> None:
        """Check the name, which becomes part of statements, and the number."""
        if not (isinstance(self.schema, str) and _SCHEMA_NAME.fullmatch(self.schema)):
            msg = f"schema must be a name of small letters, digits and underscores, not {self.schema!r}"
            raise ConfigurationError(msg, field="schema")
        if type(self.buckets) is not int or not 1 <= self.buckets <= _MOST_BUCKETS:
            msg = f"buckets must be a whole number from 1 to {_MOST_BUCKETS}, not {self.buckets!r}"
            raise ConfigurationError(msg, field="buckets")

    def __str__(self) -> str:
        """Return the statements that make them."""
        return self._of(_MADE).strip() + "\n"

    @property
    def grants(self) -> str:
        """Say, as a comment in SQL, which rights a role needs on them that does not own them."""
        return self._of(_GRANTS).lstrip()

    def _of(self, sql: str, **more: str) -> str:
        return sql.format(
            twice=_TWICE,
            s=f'"{self.schema}"',
            buckets=self.buckets,
            version=VERSION,
            columns=_COLUMNS,
            movable=_MOVABLE,
            **more,
            as_of="concat_ws(' ', pg_current_snapshot(), pg_postmaster_start_time())",
        )

    # -- what they are

    @property
    def lock(self) -> str:
        """Wait until no other process makes or changes them; until the end of the transaction."""
        return f"SELECT pg_advisory_xact_lock(hashtext('altcraft_async outbox {self.schema}'))"

    @property
    def there(self) -> str:
        """Say whether they are there."""
        return self._of("SELECT to_regclass('{s}.meta') IS NOT NULL")

    @property
    def unreadable(self) -> str:
        """Say whether this connection has no encoding, so that the client cannot know what a text says."""
        return "SELECT current_setting('client_encoding') = 'SQL_ASCII'"

    @property
    def make(self) -> str:
        """Make them where they are not there."""
        return f"DO $made$ BEGIN IF NOT ({self.there}) THEN {self} END IF; END $made$"

    def upgrade(self, version: int) -> str | None:
        """Bring tables of an older version to this one; None if nothing is known of that version."""
        steps = [_UPGRADES.get(older) for older in range(version, VERSION)]
        known = [step for step in steps if step is not None]
        return self._of("".join(known)).strip() + "\n" if known and len(known) == len(steps) else None

    @property
    def meta(self) -> str:
        """Read what they were made as."""
        return self._of("SELECT version, buckets, target FROM {s}.meta")

    @property
    def aim(self) -> str:
        """Note where they are delivered to, where that is not known yet; say where to. Parameter: the address."""
        return self._of("UPDATE {s}.meta SET target = coalesce(target, %s) RETURNING target")

    # -- accepting

    @property
    def put(self) -> str:
        """Accept many, in their order. Parameters: arrays of buckets, the three ids, request ids, traces (or '')."""
        return self._of("""
            INSERT INTO {s}.entry (bucket, {columns})
            SELECT u.b, u.o, u.l, u.s, u.r, nullif(u.t, '') FROM
            unnest(%s::smallint[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
            WITH ORDINALITY AS u(b, o, l, s, r, t, n) ORDER BY u.n {twice}
        """)

    def put_values(self, rows: str) -> str:
        """Accept many with the markers of any driver, in `rows` of six."""
        insert = self._of("INSERT INTO {s}.entry (bucket, {columns})")
        return f"{insert} VALUES {rows} {_TWICE}"

    # -- reading

    def _unseen(self, *, late: bool) -> str:
        """Select what the last snapshot did not see; the second half costs planning, and is rarely needed.

        A row of a transaction that this server has not yet begun was copied from another server, and is an old one.
        """
        since = "xid >= %(end)s::xid8 AND xid < pg_snapshot_xmax(pg_current_snapshot())"
        until_then = ["xid = ANY (%(open)s::xid8[])"] * late
        # the offset keeps the planner from reading the buckets' own index, which may be full of deleted rows
        parts = [f"(SELECT * FROM {{s}}.entry WHERE {which} OFFSET 0)" for which in (since, *until_then)]  # noqa: S608
        return self._of(" UNION ALL ".join(parts))

    def pending(self, *, late: bool) -> str:
        """Read on in buckets; the first row has the snapshot of this read, and the server's start.

        Parameters: `buckets`, their `cursors`, and the `most` of each; the `end` of the last snapshot, and, where it is
        to be read `late`, what was `open` in it.
        """
        return self._of(
            """
            WITH asked AS (
                SELECT * FROM unnest(
                    %(buckets)s::smallint[], %(cursors)s::bigint[], %(most)s::bigint[]
                ) AS u(bucket, cursor, most)
            ), found AS (
                SELECT e.* FROM asked CROSS JOIN LATERAL (
                    SELECT * FROM {s}.entry WHERE entry.bucket = asked.bucket AND entry.id > asked.cursor
                    ORDER BY entry.id LIMIT asked.most
                ) AS e
                UNION ALL
                SELECT e.* FROM ({unseen}) AS e JOIN asked ON e.bucket = asked.bucket AND e.id <= asked.cursor
            )
            SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, {as_of}
            UNION ALL
            SELECT * FROM (
                SELECT bucket, id, {columns}, extract(epoch FROM clock_timestamp() - put_at)::float8, NULL
                FROM found ORDER BY id
            ) AS sorted
        """,
            unseen=self._unseen(late=late),
        )

    def news(self, *, late: bool) -> str:
        """Read on where all that could be seen has been read; the first row is as that of `pending`.

        Parameters: `buckets`; `most`; the `end` of the last snapshot, and, where it is to be read `late`, what was
        `open` in it.
        """
        return self._of(
            """
            SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, {as_of}
            UNION ALL
            SELECT * FROM (
                SELECT bucket, id, {columns}, extract(epoch FROM clock_timestamp() - put_at)::float8, NULL
                FROM ({unseen}) AS found WHERE bucket = ANY (%(buckets)s::smallint[]) ORDER BY id LIMIT %(most)s
            ) AS sorted
        """,
            unseen=self._unseen(late=late),
        )

    @property
    def counts(self) -> str:
        """Count, up to a bound, which is the parameter."""
        return self._of("""
            SELECT e.count, (SELECT count(*) FROM {s}.dead), e.age, (
                SELECT n_dead_tup FROM pg_stat_all_tables WHERE relid = '{s}.entry'::regclass
            ), (
                SELECT extract(epoch FROM clock_timestamp() - min(xact_start))::float8 FROM pg_stat_activity
                WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
            ), (
                SELECT sum(n_dead_tup)::bigint FROM pg_stat_all_tables
                WHERE relid IN ('{s}.bucket'::regclass, '{s}.drainer'::regclass)
            ) FROM (
                SELECT count(*), extract(epoch FROM clock_timestamp() - min(put_at))::float8 AS age
                FROM (SELECT put_at FROM {s}.entry LIMIT %s) AS few
            ) AS e
        """)

    # -- cleaning

    @property
    def compact(self) -> str:
        """Give back the space of deleted rows, whatever snapshots are open, unless very many wait or anybody is in.

        A vacuum removes no row that was deleted after the oldest transaction began. The lock says that no transaction
        which is open now has looked at the table; later ones see its rows as of now. That holds for statements that
        wait for the lock only where each takes a snapshot of its own. It says whether the space was given back.
        """
        return self._of("""
            SET LOCAL lock_timeout = '50ms';
            LOCK TABLE {s}.entry IN ACCESS EXCLUSIVE MODE;
            DO $compact$ DECLARE waiting {s}.entry[] := ARRAY (SELECT entry FROM {s}.entry LIMIT {movable} + 1); BEGIN
                IF cardinality(waiting) <= {movable} AND current_setting('transaction_isolation') = 'read committed'
                THEN
                    TRUNCATE {s}.entry;
                    INSERT INTO {s}.entry (bucket, id, {columns}, put_at, xid) OVERRIDING SYSTEM VALUE
                    SELECT bucket, id, {columns}, put_at, xid FROM unnest(waiting) ORDER BY id;
                END IF;
            END $compact$;
            SELECT count(*) <= {movable} AND current_setting('transaction_isolation') = 'read committed'
            FROM (SELECT FROM {s}.entry LIMIT {movable} + 1) AS few
        """)

    @property
    def compact_leases(self) -> str:
        """Give back the space of what leases once were, as `compact` does."""
        return self._of("""
            SET LOCAL lock_timeout = '50ms';
            LOCK TABLE {s}.drainer, {s}.bucket IN ACCESS EXCLUSIVE MODE;
            DO $compact$ DECLARE
                leases {s}.bucket[] := ARRAY (SELECT b FROM {s}.bucket AS b);
                drainers {s}.drainer[] := ARRAY (SELECT d FROM {s}.drainer AS d);
            BEGIN
                IF current_setting('transaction_isolation') = 'read committed' THEN
                    TRUNCATE {s}.bucket, {s}.drainer;
                    INSERT INTO {s}.bucket SELECT * FROM unnest(leases);
                    INSERT INTO {s}.drainer SELECT * FROM unnest(drainers);
                END IF;
            END $compact$
        """)

    # -- ending

    @property
    def delivered(self) -> str:
        """Forget what was delivered. Parameters: arrays of buckets, ids, request ids, orders, lines."""
        return self._of("""
            WITH ended AS (
                SELECT * FROM unnest(
                    %s::smallint[], %s::bigint[], %s::text[], %s::text[], %s::text[]
                ) AS u(bucket, id, r, o, l)
            ), passed AS (
                UPDATE {s}.dead SET overtaken = true FROM ended WHERE NOT overtaken AND dead.order_external_id = ended.o
                AND dead.order_line_external_id = ended.l AND dead.id < ended.id
            ), gone AS (
                DELETE FROM {s}.entry USING ended
                WHERE entry.bucket = ended.bucket AND entry.id = ended.id AND entry.request_id = ended.r RETURNING 1
            ) SELECT count(*) FROM gone
        """)

    @property
    def buried(self) -> str:
        """Bury. Parameters: the owner; arrays of buckets, epochs, ids, request ids, states, reasons, attempts."""
        return self._of("""
            WITH gone AS (
                DELETE FROM {s}.entry USING {s}.bucket AS b, (SELECT %s::uuid AS owner) AS mine, unnest(
                    %s::smallint[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::text[], %s::integer[]
                ) AS u(bucket, epoch, id, request_id, state, reason, attempts)
                WHERE entry.bucket = u.bucket AND entry.id = u.id AND entry.request_id = u.request_id
                AND b.bucket = u.bucket AND b.owner = mine.owner AND b.epoch = u.epoch
                RETURNING entry.id, entry.bucket, entry.order_external_id, entry.order_line_external_id,
                    entry.status_external_id, entry.request_id, entry.traceparent, entry.put_at, u.state, u.reason,
                    u.attempts
            ), dead AS (
                INSERT INTO {s}.dead (id, bucket, {columns}, put_at, state, reason, attempts)
                SELECT id, bucket, {columns}, put_at, state, reason, attempts FROM gone RETURNING id
            ) SELECT id FROM dead
        """)

    # -- leases

    @property
    def seen(self) -> str:
        """Note that a drainer lives, at the time of its leases. Parameters: its id, host, process."""
        return self._of("""
            INSERT INTO {s}.drainer (id, seen_at, host, pid) VALUES (%s, now(), %s, %s)
            ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at
        """)

    @property
    def renew(self) -> str:
        """Keep what is held. Parameters: seconds, owner."""
        return self._of("""
            UPDATE {s}.bucket SET expires_at = now() + make_interval(secs => %s)
            WHERE owner = %s AND expires_at > now() RETURNING bucket, epoch
        """)

    @property
    def look(self) -> str:
        """Count the other drainers and the free buckets; say in how many seconds the next lease of others ends.

        Parameters: seconds, owner, owner.
        """
        return self._of("""
            SELECT (SELECT count(*) FROM {s}.drainer WHERE seen_at > now() - make_interval(secs => %s) AND id <> %s),
                count(*) FILTER (WHERE owner IS NULL OR expires_at <= now()),
                extract(epoch FROM min(expires_at) FILTER (WHERE owner <> %s AND expires_at > now()) - now())::float8
            FROM {s}.bucket
        """)

    @property
    def claim(self) -> str:
        """Take free buckets, whichever. Parameters: owner, seconds, the most."""
        return self._of("""
            UPDATE {s}.bucket AS b SET owner = %s, epoch = b.epoch + 1, expires_at = now() + make_interval(secs => %s)
            FROM (
                SELECT bucket FROM {s}.bucket WHERE owner IS NULL OR expires_at <= now()
                ORDER BY bucket LIMIT %s FOR UPDATE SKIP LOCKED
            ) AS free WHERE b.bucket = free.bucket RETURNING b.bucket, b.epoch
        """)

    @property
    def release(self) -> str:
        """Give back. Parameters: owner, buckets."""
        return self._of(
            "UPDATE {s}.bucket SET owner = NULL, expires_at = NULL WHERE owner = %s AND bucket = ANY(%s::smallint[])"
        )

    @property
    def leave(self) -> str:
        """Be a drainer no more, and forget those that died long ago. Parameter: owner."""
        return self._of("DELETE FROM {s}.drainer WHERE id = %s OR seen_at < now() - interval '1 day'")

    @property
    def drainers(self) -> str:
        """Say who delivers."""
        return self._of("""
            SELECT d.host, d.pid, extract(epoch FROM clock_timestamp() - d.seen_at)::float8,
                count(b.bucket) FILTER (WHERE b.expires_at > now())
            FROM {s}.drainer AS d LEFT JOIN {s}.bucket AS b ON b.owner = d.id
            WHERE d.seen_at > now() - interval '1 day' GROUP BY d.id ORDER BY d.host, d.pid
        """)

    # -- dead letters

    @property
    def letters(self) -> str:
        """Read dead letters. Parameters: the id after which, the most."""
        return self._of("""
            SELECT id, order_external_id, order_line_external_id, status_external_id, request_id, state, reason,
                attempts, extract(epoch FROM put_at)::float8, extract(epoch FROM died_at)::float8, overtaken,
                traceparent
            FROM {s}.dead WHERE id > %s ORDER BY id LIMIT %s
        """)

    @property
    def stop_puts(self) -> str:
        """Wait until no transaction that has put is open, and let none put until the end of this one."""
        return self._of("LOCK TABLE {s}.entry IN SHARE ROW EXCLUSIVE MODE")

    @property
    def retry(self) -> str:
        """Let dead letters wait again. Parameter: their ids, or NULL for all that nothing has overtaken."""
        return self._of("""
            WITH chosen AS (
                DELETE FROM {s}.dead WHERE id = ANY(%(ids)s::bigint[]) OR (
                    %(ids)s::bigint[] IS NULL AND NOT overtaken AND NOT EXISTS (
                        SELECT 1 FROM {s}.entry WHERE entry.order_external_id = dead.order_external_id
                        AND entry.order_line_external_id = dead.order_line_external_id AND entry.id > dead.id
                    )
                ) RETURNING *
            ), again AS (
                INSERT INTO {s}.entry (bucket, {columns})
                SELECT bucket, order_external_id, order_line_external_id, status_external_id,
                    CASE state WHEN 'rejected' THEN gen_random_uuid()::text ELSE request_id END, traceparent
                FROM chosen ORDER BY id ON CONFLICT (request_id) DO NOTHING
            ) SELECT count(*) FROM chosen
        """)

    @property
    def trim(self) -> str:
        """Delete old dead letters. Parameters: their age in seconds or NULL, how many may stay or NULL."""
        return self._of("""
            WITH old AS (
                DELETE FROM {s}.dead WHERE died_at < clock_timestamp() - make_interval(secs => %(age)s::float8)
                RETURNING id
            ), surplus AS (
                DELETE FROM {s}.dead WHERE id IN (
                    SELECT id FROM {s}.dead WHERE %(most)s::bigint IS NOT NULL AND id NOT IN (SELECT id FROM old)
                    ORDER BY id DESC OFFSET coalesce(%(most)s::bigint, 0)
                ) RETURNING id
            ) SELECT (SELECT count(*) FROM old) + (SELECT count(*) FROM surplus)
        """)

    @property
    def forget(self) -> str:
        """Delete what concerns an order. Parameters: its bucket, its id, its id."""
        return self._of("""
            WITH waiting AS (
                DELETE FROM {s}.entry WHERE bucket = %s AND order_external_id = %s RETURNING 1
            ), dead AS (
                DELETE FROM {s}.dead WHERE order_external_id = %s RETURNING 1
            ) SELECT (SELECT count(*) FROM waiting), (SELECT count(*) FROM dead)
        """)

    @property
    def purge(self) -> str:
        """Delete dead letters. Parameter: their ids, or NULL for all."""
        return self._of("""
            WITH gone AS (
                DELETE FROM {s}.dead WHERE %(ids)s::bigint[] IS NULL OR id = ANY(%(ids)s::bigint[]) RETURNING 1
            ) SELECT count(*) FROM gone
        """)
