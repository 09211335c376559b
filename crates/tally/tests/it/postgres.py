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
# quoted names, buckets of time, filters with typed literals; and its list of tables and its sync, as in src/metabase/driver/postgres.clj.
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
    # What its sync asks for: privileges, columns with their types, foreign keys, indexes, enumerations.
    (
        r'''with table_privileges as ( select NULL as role, t.schemaname as schema, t.objectname as table, pg_catalog.has_any_column_privilege(current_user, '"'
        || replace(t.schemaname, '"', '""') || '"' || '.' || '"' || replace(t.objectname, '"', '""') || '"', 'update') as update,
        pg_catalog.has_any_column_privilege(current_user, '"' || replace(t.schemaname, '"', '""') || '"' || '.' || '"' || replace(t.objectname, '"', '""') ||
        '"', 'select') as select, pg_catalog.has_any_column_privilege(current_user, '"' || replace(t.schemaname, '"', '""') || '"' || '.' || '"' ||
        replace(t.objectname, '"', '""') || '"', 'insert') as insert, pg_catalog.has_table_privilege( current_user, '"' || replace(t.schemaname, '"', '""') ||
        '"' || '.' || '"' || replace(t.objectname, '"', '""') || '"', 'delete') as delete from ( select schemaname, tablename as objectname from
        pg_catalog.pg_tables union select schemaname, viewname as objectname from pg_catalog.pg_views union select schemaname, matviewname as objectname from
        pg_catalog.pg_matviews ) t where t.schemaname !~ '^pg_' and t.schemaname <> 'information_schema' and pg_catalog.has_schema_privilege(current_user,
        t.schemaname, 'usage') ) select t.* from table_privileges t''',
        'campaign_day',
    ),
    (
        r'''SELECT "c"."column_name" AS "name", CASE WHEN "c"."udt_schema" IN ('public', 'pg_catalog') THEN FORMAT('%s', "c"."udt_name") ELSE FORMAT('"%s"."%s"',
        "c"."udt_schema", "c"."udt_name") END AS "database-type", "c"."ordinal_position" - 1 AS "database-position", "c"."table_schema" AS "table-schema",
        "c"."table_name" AS "table-name", "pk"."column_name" IS NOT NULL AS "pk?", COL_DESCRIPTION(CAST(CAST(FORMAT('%I.%I', CAST("c"."table_schema" AS TEXT),
        CAST("c"."table_name" AS TEXT)) AS REGCLASS) AS OID), "c"."ordinal_position") AS "field-comment", (("column_default" IS NULL) OR
        (LOWER("column_default") = 'null')) AND ("is_nullable" = 'NO') AND NOT ((("column_default" IS NOT NULL) AND ("column_default" LIKE '%nextval(%')) OR
        ("is_identity" <> 'NO')) AS "database-required", (("column_default" IS NOT NULL) AND ("column_default" LIKE '%nextval(%')) OR ("is_identity" <> 'NO')
        AS "database-is-auto-increment" FROM "information_schema"."columns" AS "c" LEFT JOIN (SELECT "tc"."table_schema", "tc"."table_name",
        "kc"."column_name" FROM "information_schema"."table_constraints" AS "tc" INNER JOIN "information_schema"."key_column_usage" AS "kc" ON
        ("tc"."constraint_name" = "kc"."constraint_name") AND ("tc"."table_schema" = "kc"."table_schema") AND ("tc"."table_name" = "kc"."table_name") WHERE
        "tc"."constraint_type" = 'PRIMARY KEY') AS "pk" ON ("c"."table_schema" = "pk"."table_schema") AND ("c"."table_name" = "pk"."table_name") AND
        ("c"."column_name" = "pk"."column_name") WHERE c.table_schema !~ '^information_schema|catalog_history|pg_' AND ("c"."table_schema" IN ('public'))
        UNION ALL SELECT "pa"."attname" AS "name", CASE WHEN "ptn"."nspname" IN ('public', 'pg_catalog') THEN FORMAT('%s', "pt"."typname") ELSE
        FORMAT('"%s"."%s"', "ptn"."nspname", "pt"."typname") END AS "database-type", "pa"."attnum" - 1 AS "database-position", "pn"."nspname" AS
        "table-schema", "pc"."relname" AS "table-name", FALSE AS "pk?", NULL AS "field-comment", FALSE AS "database-required", FALSE AS
        "database-is-auto-increment" FROM "pg_catalog"."pg_class" AS "pc" INNER JOIN "pg_catalog"."pg_namespace" AS "pn" ON "pn"."oid" = "pc"."relnamespace"
        INNER JOIN "pg_catalog"."pg_attribute" AS "pa" ON "pa"."attrelid" = "pc"."oid" INNER JOIN "pg_catalog"."pg_type" AS "pt" ON "pt"."oid" =
        "pa"."atttypid" INNER JOIN "pg_catalog"."pg_namespace" AS "ptn" ON "ptn"."oid" = "pt"."typnamespace" WHERE ("pc"."relkind" = 'm') AND ("pa"."attnum"
        >= 1) AND ("pn"."nspname" IN ('public')) ORDER BY "table-schema" ASC, "table-name" ASC, "database-position" ASC''',
        "'timestamptz', 0, 'public', 'audience_day', False, None, True, False",
    ),
    (
        r'''SELECT "fk_ns"."nspname" AS "fk-table-schema", "fk_table"."relname" AS "fk-table-name", "fk_column"."attname" AS "fk-column-name", "pk_ns"."nspname"
        AS "pk-table-schema", "pk_table"."relname" AS "pk-table-name", "pk_column"."attname" AS "pk-column-name" FROM "pg_constraint" AS "c" INNER JOIN
        "pg_class" AS "fk_table" ON "c"."conrelid" = "fk_table"."oid" INNER JOIN "pg_namespace" AS "fk_ns" ON "c"."connamespace" = "fk_ns"."oid" INNER JOIN
        "pg_attribute" AS "fk_column" ON "c"."conrelid" = "fk_column"."attrelid" INNER JOIN "pg_class" AS "pk_table" ON "c"."confrelid" = "pk_table"."oid"
        INNER JOIN "pg_namespace" AS "pk_ns" ON "pk_table"."relnamespace" = "pk_ns"."oid" INNER JOIN "pg_attribute" AS "pk_column" ON "c"."confrelid" =
        "pk_column"."attrelid" WHERE fk_ns.nspname !~ '^information_schema|catalog_history|pg_' AND ("c"."contype" = 'f'::char) AND ("fk_column"."attnum" =
        ANY(c.conkey)) AND ("pk_column"."attnum" = ANY(c.confkey)) AND ("fk_ns"."nspname" IN ('public')) ORDER BY "fk-table-schema" ASC, "fk-table-name" ASC''',
        '[]',
    ),
    (
        r'''SELECT "tmp"."table-schema", "tmp"."table-name", TRIM(BOTH '"' FROM "pg_catalog"."pg_get_indexdef"("tmp"."ci_oid", "tmp"."pos", FALSE)) AS
        "field-name" FROM (SELECT "n"."nspname" AS "table-schema", "ct"."relname" AS "table-name", "ci"."oid" AS "ci_oid",
        ("information_schema"."_pg_expandarray"("i"."indkey")).n AS "pos" FROM "pg_catalog"."pg_class" AS "ct" INNER JOIN "pg_catalog"."pg_namespace" AS "n"
        ON "ct"."relnamespace" = "n"."oid" INNER JOIN "pg_catalog"."pg_index" AS "i" ON "ct"."oid" = "i"."indrelid" INNER JOIN "pg_catalog"."pg_class" AS "ci"
        ON "ci"."oid" = "i"."indexrelid" WHERE ("pg_catalog"."pg_get_expr"("i"."indpred", "i"."indrelid") IS NULL) AND n.nspname !~
        '^information_schema|catalog_history|pg_') AS "tmp" WHERE "tmp"."pos" = 1''',
        '[]',
    ),
    (
        r'''SELECT nspname, typname FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid IN (SELECT DISTINCT enumtypid FROM pg_enum e)''',
        '[]',
    ),
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
