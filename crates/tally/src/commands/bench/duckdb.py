"""The other side of `tally bench sql`: DuckDB over the same files. A JSON object on each line of standard input, one back on each."""

import json
import sys
import time
from collections import Counter
from datetime import datetime, timezone

import duckdb

setup = json.loads(sys.stdin.readline())
database = duckdb.connect(config={"threads": setup["threads"]})
database.execute("SET TimeZone = 'UTC'")
# It would be drawn onto standard output, between the answers.
database.execute("SET enable_progress_bar = false")
database.execute(f"CREATE VIEW events AS SELECT * FROM read_parquet({setup['files']!r}, hive_partitioning = true)")
print(json.dumps({"version": duckdb.__version__}), flush=True)


def text(value):
    """One text for what is one value, whoever wrote it: `2026-11-01T00:00:00Z` is a time of either side."""
    if isinstance(value, str) and value.endswith("Z"):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        value = value.astimezone(timezone.utc)
    return str(value)


def difference(rows, names, lines):
    """What only one of both answers has, in whatever order, and nothing where they are equal."""
    theirs = Counter(tuple(map(text, row)) for row in rows)
    answers = map(json.loads, lines.splitlines())
    ours = Counter(tuple(text(answer.get(name)) for name in names) for answer in answers)
    return [f"{name}: {list(only.elements())[:3]}" for name, only in (("Tally", ours - theirs), ("DuckDB", theirs - ours)) if only]


for line in sys.stdin:
    question = json.loads(line)
    began = time.perf_counter()
    cursor = database.execute(question["sql"])
    rows = cursor.fetchall()
    ms = (time.perf_counter() - began) * 1000
    names = [column[0] for column in cursor.description]
    print(json.dumps({"ms": ms, "differs": difference(rows, names, question["lines"])}), flush=True)
