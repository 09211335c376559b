"""What drivers and BI tools do on the Postgres port. Run by postgres.rs with the address of a server that has counted 3,000
clicks, a thousand of campaign `one`, all on 5 May 2024."""

import datetime
import decimal
import sys
import threading
import time

import psycopg
import sqlalchemy

url = sys.argv[1]


def check(what, found, expected):
    assert found == expected, f"{what}: {found!r} instead of {expected!r}"


def psycopg_prepared_typed_and_binary():
    with psycopg.connect(url, autocommit=True) as connection:
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            row = cursor.execute(
                "SELECT campaign_id, clicks, cost_micros, bucket FROM campaign_day WHERE campaign_id = %s", ["one"], prepare=True
            ).fetchone()
            midnight = datetime.datetime(2024, 5, 5, tzinfo=datetime.timezone.utc)
            check(f"a row, binary={binary}", row, ("one", 1000, decimal.Decimal(0), midnight))
            day = [datetime.datetime(2024, 5, 5, tzinfo=datetime.timezone.utc)]
            found = cursor.execute("SELECT sum(clicks) FROM campaign_day WHERE bucket >= %s", day, prepare=True).fetchone()
            check(f"a timestamp, binary={binary}", found, (3000,))
            found = cursor.execute("SELECT count(*) FROM events WHERE log_offset >= %s AND x IS NULL", [0]).fetchone()
            check(f"a number, binary={binary}", found, (3000,))
            found = cursor.execute("SELECT count(*) FROM events WHERE campaign_id = any(%s)", [["one", "other"]]).fetchone()
            check(f"a list, binary={binary}", found, (1000,))
        # The same statement again and again becomes a prepared one, and sees what comes in between.
        for _ in range(8):
            check("again", connection.execute("SELECT count(*) FROM events WHERE kind = %s", ["click"]).fetchone(), (3000,))
        check("many rows", len(connection.execute("SELECT event_id FROM events").fetchall()), 3000)
        try:
            connection.execute("SELECT nothing FROM events")
            raise AssertionError("a column that is not there was found")
        except psycopg.Error as error:
            assert "nothing" in str(error), error
        check("after an error", connection.execute("SELECT 1").fetchone(), (1,))


def psycopg_transactions_and_cursors():
    with psycopg.connect(url) as connection:
        check("in a transaction", connection.execute("SELECT count(*) FROM campaign_day").fetchone(), (2,))
        connection.commit()
        with connection.cursor(name="slowly") as cursor:
            cursor.itersize = 500
            cursor.execute("SELECT event_id FROM events ORDER BY event_id")
            check("a cursor on the server", sum(1 for _ in cursor), 3000)
        connection.rollback()
        for refused in ("DROP TABLE events", "CREATE TABLE t (a int)", "INSERT INTO events VALUES (1)"):
            try:
                connection.execute(refused)
                raise AssertionError(f"{refused} was done")
            except psycopg.errors.ReadOnlySqlTransaction:
                connection.rollback()
        check("after refusals", connection.execute("SELECT count(*) FROM events").fetchone(), (3000,))


def psycopg_cancel():
    endless = "SELECT sum(value % 7) FROM generate_series(1, 100000000000000)"
    with psycopg.connect(url, autocommit=True) as connection:
        threading.Timer(0.5, connection.cancel_safe).start()
        began = time.monotonic()
        try:
            connection.execute(endless)
            raise AssertionError("it ended")
        except psycopg.errors.QueryCanceled:
            assert time.monotonic() - began < 20
        check("after a cancel", connection.execute("SELECT 1").fetchone(), (1,))
        connection.execute("SET statement_timeout = 300")
        try:
            connection.execute(endless)
            raise AssertionError("it ended")
        except psycopg.errors.QueryCanceled as error:
            assert "timeout" in str(error), error
        check("after a timeout", connection.execute("SELECT 2").fetchone(), (2,))


def sqlalchemy_reflects_and_asks():
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        check("text", connection.execute(sqlalchemy.text("SELECT count(*) FROM events")).scalar(), 3000)
        table = sqlalchemy.table("campaign_day", sqlalchemy.column("campaign_id"), sqlalchemy.column("clicks"))
        query = sqlalchemy.select(table.c.campaign_id, sqlalchemy.func.sum(table.c.clicks)).group_by(table.c.campaign_id)
        query = query.where(table.c.campaign_id.in_(["one", "two"])).order_by(table.c.campaign_id).limit(10)
        check("an expression", [tuple(row) for row in connection.execute(query)], [("one", 1000), ("two", 2000)])


# Of the shape that Grafana's PostgreSQL data source sends: the version, extensions, schemas, tables and columns, as in
# public/app/plugins/datasource/grafana-postgresql-datasource/postgresMetaQuery.ts, and its macros $__timeGroup and $__timeFilter, as
# in pkg/tsdb/grafana-postgresql-datasource/macros.go.
GRAFANA = [
    ("SELECT current_setting('server_version_num')::int / 100 AS version", "1600"),
    ("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'", None),
    (
        "SELECT schema_name AS name FROM information_schema.schemata "
        "WHERE schema_name NOT IN ('information_schema', 'pg_catalog', 'pg_toast') ORDER BY schema_name",
        "sketches",
    ),
    ("SELECT quote_ident(table_name) AS name FROM information_schema.tables WHERE quote_ident(table_schema) = 'public' ORDER BY 1", "campaign_day"),
    (
        """SELECT column_name AS name, data_type AS type FROM information_schema.columns
        WHERE quote_ident(table_name) = 'campaign_day' AND quote_ident(table_schema) = 'public'""",
        "clicks",
    ),
    (
        """SELECT floor(extract(epoch FROM bucket) / 3600) * 3600 AS time, campaign_id AS metric, sum(clicks) AS clicks
        FROM campaign_hour WHERE bucket BETWEEN '2024-05-01T00:00:00Z' AND '2024-06-01T00:00:00Z' GROUP BY 1, 2 ORDER BY 1""",
        "one",
    ),
    ("SELECT date_trunc('day', bucket) AS time, sum(clicks) FROM campaign_minute GROUP BY 1 ORDER BY 1 LIMIT 50", "3000"),
]

# Of the shape that Metabase sends for questions of its editor, as its query processor writes them (src/metabase/driver/sql/query_processor.clj):
# quoted names, buckets of time, filters with typed literals; and its list of tables, as in src/metabase/driver/postgres.clj.
METABASE = [
    ("SELECT current_timestamp", None),
    ("SHOW TRANSACTION ISOLATION LEVEL", None),
    (
        """SELECT n.nspname AS schema, c.relname AS name, c.relkind AS type
        FROM pg_catalog.pg_class AS c INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace = n.oid
        WHERE c.relkind IN ('r', 'p', 'v', 'f', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1, 2""",
        "geo_hour",
    ),
    (
        """SELECT "public"."campaign_day"."campaign_id" AS "campaign_id", DATE_TRUNC('month', "public"."campaign_day"."bucket") AS "bucket",
        SUM("public"."campaign_day"."clicks") AS "sum" FROM "public"."campaign_day"
        WHERE ("public"."campaign_day"."bucket" >= timestamp with time zone '2024-01-01 00:00:00.000Z')
        GROUP BY "public"."campaign_day"."campaign_id", DATE_TRUNC('month', "public"."campaign_day"."bucket")
        ORDER BY "public"."campaign_day"."campaign_id" ASC, DATE_TRUNC('month', "public"."campaign_day"."bucket") ASC""",
        "one",
    ),
    ('SELECT * FROM "public"."campaign_day" LIMIT 2000', "two"),
    ('SELECT COUNT(*) AS "count" FROM "public"."events"', "3000"),
]
def tools_ask():
    failed = []
    with psycopg.connect(url, autocommit=True) as connection:
        for tool, queries in (("Grafana", GRAFANA), ("Metabase", METABASE)):
            for query, expected in queries:
                try:
                    rows = connection.execute(query).fetchall()
                    if expected is not None:
                        assert expected in str(rows), f"{expected} is not in {str(rows)[:300]}"
                except (psycopg.Error, AssertionError) as error:
                    failed.append(f"{tool}: {query}\n  {error}")
    assert not failed, "\n".join(failed)


psycopg_prepared_typed_and_binary()
psycopg_transactions_and_cursors()
psycopg_cancel()
sqlalchemy_reflects_and_asks()
tools_ask()
print("all fine")
