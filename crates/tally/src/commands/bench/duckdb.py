"""The other side of `tally bench sql`: DuckDB over the same files. A JSON object on each line of standard input, one back on each."""

import json
import sys
import time

import duckdb

setup = json.loads(sys.stdin.readline())
database = duckdb.connect(config={"threads": setup["threads"]})
database.execute("SET TimeZone = 'UTC'")
# It would be drawn onto standard output, between the answers.
database.execute("SET enable_progress_bar = false")
database.execute(f"CREATE VIEW events AS SELECT * FROM read_parquet({setup['files']!r}, hive_partitioning = true)")
print(json.dumps({"version": duckdb.__version__}), flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    rows = database.execute(json.loads(line)["sql"]).fetchall()
    print(json.dumps({"ms": (time.perf_counter() - began) * 1000, "rows": len(rows)}), flush=True)
