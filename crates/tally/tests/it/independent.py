"""Computes what a server answered once more, by DuckDB over the Parquet files of its lake, and tells where it differs.

    independent.py DATA_FOLDER ANSWERS.json

Nothing here knows the server's code: metrics are as docs/api.md defines them, calendars are Python's, and rollups are not read.
The file is a list of {"path", "question", "answer"}. Prints the differences; the last line says how much was compared."""

import json
import math
import sys
from bisect import bisect_right
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import duckdb
import pyarrow
from deltalake import DeltaTable

KINDS = ["impression", "click", "conversion"]
CLASSES = {
    "": ["counted"],
    "gross_": ["counted", "duplicate", "invalid_givt", "invalid_sivt", "quarantined"],
    "duplicate_": ["duplicate"],
    "invalid_": ["invalid_givt", "invalid_sivt"],
    "invalid_givt_": ["invalid_givt"],
    "invalid_sivt_": ["invalid_sivt"],
    "quarantined_": ["quarantined"],
}
UNITS = ["minute", "hour", "day", "week", "month"]
QUARTER_US = 900_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

db = duckdb.connect()
db.execute("set timezone = 'UTC'")


def rows(sql):
    return db.sql(sql).fetchall()


def load(folder):
    for name in ("events", "attributions"):
        table = DeltaTable(f"{folder}/lake/{name}")
        files = table.file_uris()
        read = f"read_parquet({files!r}, hive_partitioning = true, union_by_name = true)"
        if not files:
            db.register("nothing", table.to_pyarrow_table())
            read = "nothing"
        times = ["occurred_at", "received_at"] + (["touched_at"] if name == "attributions" else [])
        micros = ", ".join(f"epoch_us({time}) as {time.removesuffix('_at')}_us" for time in times)
        db.execute(f"create table {name} as select *, {micros} from {read}")


# Time.


def us(text):
    at = datetime.fromisoformat(text.replace("Z", "+00:00")) - EPOCH
    return (at.days * 86_400 + at.seconds) * 1_000_000 + at.microseconds


def local(at_us, zone):
    return (EPOCH + timedelta(microseconds=at_us)).astimezone(zone)


def window_of(unit, at):
    """What tells a window from its neighbours: an hour that the clocks repeat is two, since its offset differs."""
    if unit == "minute":
        return at.isoformat(timespec="minutes")
    if unit == "hour":
        return (at.date(), at.hour, at.utcoffset())
    day = at.date()
    return {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}[unit]


KNOWN_WINDOWS = {}


def windows(unit, zone_name, from_us, to_us):
    """Every step of the clock from the first instant to the last, with when its window begins and what that is called."""
    key = (unit, zone_name, from_us, to_us)
    if key in KNOWN_WINDOWS:
        return KNOWN_WINDOWS[key]
    zone = ZoneInfo(zone_name)
    step = 60_000_000 if unit == "minute" else QUARTER_US
    at = from_us // step * step
    found, window, start = [], None, at
    while unit == "hour" and window_of(unit, local(start - step, zone)) == window_of(unit, local(at, zone)):
        start -= step
    while at < to_us:
        here = local(at, zone)
        if window is None or window_of(unit, here) != window:
            start, window = (start if window is None else at), window_of(unit, here)
        name = local(start, zone).isoformat() if unit in ("minute", "hour") else window.isoformat()
        # Windows are in the order of `rank`, which texts with different offsets are not.
        rank = start if unit in ("minute", "hour") else us(f"{window.isoformat()}T00:00:00Z")
        found.append((at // step, name, rank))
        at += step
    KNOWN_WINDOWS[key] = (step, found)
    return step, found


# Reports.


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def keeps(filter, by_segment):
    """Whether an event is kept, as SQL that is never null."""
    listed = [value for value in filter["values"] if value is not None]
    texts = "[" + ", ".join(map(literal, listed)) + "]::varchar[]"
    field = filter["field"]
    if field == "segment" and not by_segment:
        there, null = f"list_has_any(segments, {texts})", "segments is null"
    else:
        there, null = f"list_contains({texts}, {field}::varchar)", f"{field} is null"
    any_of = [f"coalesce({there}, false)"] + ([null] if None in filter["values"] else [])
    test = "(" + " or ".join(any_of) + ")"
    return f"not {test}" if filter.get("op") in ("not_in", "ne") else test


def source(question, time="occurred", table="events"):
    """The rows that a question is about, with a column for each group."""
    groups = question.get("group_by", [])
    by_segment = "segment" in groups
    relation = table
    if by_segment:
        relation = f"(select *, unnest(coalesce(segments, [null])) as segment from {table})"
    from_us, to_us = us(question["from"]), us(question["to"])
    tests = [f"{time}_us >= {from_us} and {time}_us < {to_us}"]
    tests += [keeps(filter, by_segment) for filter in question.get("filters", [])]
    columns, joins = [], ""
    for at, group in enumerate(groups):
        if group in UNITS:
            step, known = windows(group, question.get("time_zone") or "UTC", from_us, to_us)
            steps, names, _ = zip(*known)
            db.register(f"clock_{at}", pyarrow.table({"step": steps, "name": names}))
            joins += f" join clock_{at} on clock_{at}.step = {time}_us // {step}"
            columns.append(f"clock_{at}.name as group_{at}")
        else:
            columns.append(f"{group}::varchar as group_{at}")
    picked = ", ".join(["source.*"] + columns)
    return f"(select {picked} from {relation} as source{joins} where {' and '.join(tests)})"


def counts(kind, prefix):
    classes = ", ".join(map(literal, CLASSES[prefix]))
    return f"count(*) filter (kind = '{kind}' and verdict in ({classes}))"


COUNTED = "filter (verdict = 'counted')"
BASES = {f"{prefix}{kind}s": counts(kind, prefix) for kind in KINDS for prefix in CLASSES}
BASES["cost_micros"] = f"coalesce(sum(cost_micros) {COUNTED}, 0)::hugeint"
BASES["revenue_micros"] = f"coalesce(sum(revenue_micros) {COUNTED}, 0)::hugeint"
BASES["users"] = f"count(distinct user_hash) {COUNTED}"
RATES = {
    "ctr": ("clicks", "impressions", 1),
    "cvr": ("conversions", "clicks", 1),
    "rpc": ("revenue_micros", "clicks", 1e-6),
    "cpa": ("cost_micros", "conversions", 1e-6),
    "cpc": ("cost_micros", "clicks", 1e-6),
    "cpm": ("cost_micros", "impressions", 1e-3),
    "roas": ("revenue_micros", "cost_micros", 1),
}


def metric(name, sums):
    if name == "margin_micros":
        return sums["revenue_micros"] - sums["cost_micros"]
    if name not in RATES:
        return sums[name]
    of, to, factor = RATES[name]
    return sums[of] / sums[to] * factor if sums[to] else None


def sums_by_group(question):
    groups = ", ".join(f"group_{at}" for at in range(len(question.get("group_by", []))))
    names = list(BASES)
    sql = f"select {groups + ', ' if groups else ''}{', '.join(BASES.values())} from {source(question)}"
    width = len(question.get("group_by", []))
    found = rows(sql + (f" group by {groups}" if groups else ""))
    sums = {row[:width]: dict(zip(names, map(int, row[width:]))) for row in found}
    if question.get("attribution"):
        sums = attributed(question, sums)
    return sums


def transactions(question):
    """Each approved transaction that is owed to something, as its last word says, booked as asked, and grouped."""
    booking = question.get("attribution", "conversion_date")
    booked = "touched_us" if booking == "click_date" else "converted_us"
    last = "order by received_at desc, \"partition\" desc, \"offset\" desc"
    db.execute(
        f"""create or replace table transactions as select *, {booked} as booked_us from (
            select * exclude (time_to_convert_s), min(occurred_us) over one as converted_us,
                   min(time_to_convert_s) over one as time_to_convert_s,
                   row_number() over (partition by transaction_id {last}) as age
            from attributions where touch_id is not null window one as (partition by transaction_id))
        where age = 1 and status = 'approved'"""
    )
    return source(question, "booked", "transactions")


def attributed(question, own):
    own_names = ["impressions", "clicks", "cost_micros"]
    zero = dict.fromkeys(BASES, 0)
    asked = {name for metric_name in question["metrics"] for name in needed(metric_name)}
    sums = {}
    for group, found in own.items():
        kept = {name: found[name] for name in own_names}
        if any(kept[name] for name in own_names if name in asked) or not question.get("group_by"):
            sums[group] = {**zero, **kept}
    groups = ", ".join(f"group_{at}" for at in range(len(question.get("group_by", []))))
    sql = f"select {groups + ', ' if groups else ''}count(*), coalesce(sum(revenue_micros), 0)::hugeint from {transactions(question)}"
    for *group, number, revenue in rows(sql + (f" group by {groups}" if groups else "")):
        of = sums.setdefault(tuple(group), dict(zero))
        of["conversions"], of["revenue_micros"] = number, int(revenue)
    return sums


def needed(name):
    if name == "margin_micros":
        return ["revenue_micros", "cost_micros"]
    return list(RATES[name][:2]) if name in RATES else [name]


def report(question):
    """Rows as lists: the groups, then the metrics, in the order asked for."""
    groups, metrics = question.get("group_by", []), question["metrics"]
    sums = sums_by_group(question)
    table = {group: [metric(name, of) for name in metrics] for group, of in sums.items()}
    ranks = {}
    for at, group in enumerate(groups):
        if group in UNITS:
            _, known = windows(group, question.get("time_zone") or "UTC", us(question["from"]), us(question["to"]))
            ranks[at] = {name: rank for _, name, rank in known}
            if question.get("fill"):
                zero = dict.fromkeys(BASES, 0)
                nothing = [metric(name, zero) if question["fill"] == "zero" else None for name in metrics]
                others = {key[:at] + key[at + 1 :] for key in table} or ({()} if len(groups) == 1 else set())
                for other in others:
                    for name in ranks[at]:
                        table.setdefault(other[:at] + (name,) + other[at:], nothing)
    told = [list(group) + values for group, values in table.items()]
    columns = groups + metrics
    order = [(columns.index(by["field"]), by.get("desc", False)) for by in question.get("order_by", [])]
    # From the last key to the first, each sort keeping the order of the ones before it.
    for column, desc in reversed(order + [(at, False) for at in range(len(groups))]):
        value = lambda row: ranks.get(column, {}).get(row[column], row[column])
        there = sorted((row for row in told if row[column] is not None), key=value, reverse=desc)
        told = there + [row for row in told if row[column] is None]
    return told[: question.get("limit", 10_000)]


# Analyses.


def about(question, **more):
    return {**{name: question[name] for name in ("from", "to", "filters", "time_zone") if name in question}, **more}


def top(question):
    asked = about(question, metrics=[question["metric"]], group_by=[question["dimension"]], limit=question.get("k", 10))
    asked["order_by"] = [{"field": question["metric"], "desc": True}]
    return {"rows": [{"value": row[0], question["metric"]: row[1]} for row in report(asked)], "exact": True}


def compare(question):
    now = about(question, metrics=question["metrics"], group_by=question.get("group_by", []))
    if question.get("before"):
        before = {**now, **question["before"]}
    else:
        length = us(now["to"]) - us(now["from"])
        before = {**now, "to": now["from"], "from": local(us(now["from"]) - length, timezone.utc).isoformat()}
    width = len(now["group_by"])
    tables = [{tuple(row[:width]): row[width:] for row in report(asked)} for asked in (now, before)]
    nothing = [metric(name, dict.fromkeys(BASES, 0)) for name in now["metrics"]]
    told = []
    for group in list(tables[0]) + [group for group in tables[1] if group not in tables[0]]:
        row = dict(zip(now["group_by"], group))
        for at, name in enumerate(now["metrics"]):
            here, there = (table.get(group, nothing)[at] for table in tables)
            change = None if here is None or there is None else here - there
            row[name] = {"now": here, "before": there, "change": change, "change_ratio": change / there if change is not None and there else None}
        told.append(row)
    return {"rows": told}


def normal_cdf(x):
    return math.erfc(-x / math.sqrt(2)) / 2


def normal_quantile(p):
    low, high = -40.0, 40.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if normal_cdf(middle) < p else (low, middle)
    return low


def chi_square_tail(x, freedom):
    tail, a = (math.erfc(math.sqrt(x / 2)), 0.5) if freedom % 2 else (math.exp(-x / 2), 1.0)
    while a < freedom / 2:
        tail += (x / 2) ** a * math.exp(-x / 2) / math.gamma(a + 1)
        a += 1
    return tail


def ab_test(question):
    of, to = {"ctr": ("clicks", "impressions"), "cvr": ("conversions", "clicks")}[question["metric"]]
    table = report(about(question, metrics=[of, to], group_by=[question["split"]]))
    table = [row for row in table if row[0] is not None]
    confidence = question.get("confidence", 0.95)
    critical = normal_quantile(0.5 + confidence / 2)
    _, k, n = next(row for row in table if row[0] == question["control"])
    tests = []
    for value, j, m in table:
        if value == question["control"]:
            continue
        p, q = k / n, j / m
        test = {"value": value, "difference": q - p, "z": None, "p_value": None, "interval": None, "power": None}
        pooled = (k + j) / (n + m)
        if 0 < pooled < 1:
            test["z"] = (q - p) / math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
            test["p_value"] = math.erfc(abs(test["z"]) / math.sqrt(2))
            error = math.sqrt(p * (1 - p) / n + q * (1 - q) / m)
            test["interval"] = [q - p - critical * error, q - p + critical * error]
            shift = abs(q - p) / error
            test["power"] = normal_cdf(shift - critical) + normal_cdf(-shift - critical)
        tests.append(test)
    known = [test["p_value"] for test in tests if test["p_value"] is not None]
    for test in tests:
        # Holm: each p by how many are not smaller; of that, the most among the p up to this one.
        smaller = [p for p in known if test["p_value"] is not None and p <= test["p_value"]]
        adjusted = [min(1, p * sum(other >= p for other in known)) for p in smaller]
        test["p_value_adjusted"] = max(adjusted) if adjusted else None
        shown = adjusted and max(adjusted) < 1 - confidence
        test["verdict"] = "no_difference_shown" if not shown else "better" if test["difference"] > 0 else "worse"
    ratio = None
    if question["metric"] == "ctr" and len(table) > 1:
        mean = sum(row[2] for row in table) / len(table)
        chi_square = sum((row[2] - mean) ** 2 / mean for row in table)
        p = chi_square_tail(chi_square, len(table) - 1)
        ratio = {"chi_square": chi_square, "p_value": p, "mismatch": p < 0.001}
    variants = [{"value": value, "trials": m, "successes": j, "rate": j / m if m else None} for value, j, m in table]
    correction = "holm" if len(tests) > 1 else None
    return {"variants": variants, "tests": tests, "correction": correction, "sample_ratio": ratio}


def funnel(question):
    steps = [step["kind"] for step in question["steps"]]
    window_us = question.get("window_s", 7 * 86_400) * 1_000_000

    def reached(segment):
        group = [segment] if segment else []
        asked = about(question, group_by=group)
        sql = f"""select {'group_0' if group else 'null'}, user_hash, kind, occurred_us from {source(asked)}
            where verdict = 'counted' and user_hash is not null and list_contains({steps!r}, kind)"""
        people = {}
        for value, person, kind, at in rows(sql):
            people.setdefault(value, {}).setdefault(person, []).append((at, KINDS.index(kind), kind))
        told = {}
        for value, events_of in people.items():
            furthest = [0] * len(steps)
            for events in events_of.values():
                for step in range(max(chain(sorted(events), steps, window_us))):
                    furthest[step] += 1
            told[value] = furthest
        return told

    def shares(furthest):
        before = [furthest[0]] + furthest[:-1]
        ratio = lambda of, to: of / to if to else None
        lines = zip(steps, furthest, before)
        return [{"name": name, "users": n, "of_first": ratio(n, furthest[0]), "of_previous": ratio(n, last)} for name, n, last in lines]

    total = reached(None).get(None, [0] * len(steps))
    segments = reached(question["segment"]) if question.get("segment") else {}
    order = sorted(segments, key=lambda value: (value is not None, value))
    return {"steps": shares(total), "segments": [{"value": value, "steps": shares(segments[value])} for value in order]}


def chain(events, steps, window_us):
    """From each first step on, as far as the others follow one after the other in time: how far each comes."""
    places = {kind: [at for at, event in enumerate(events) if event[2] == kind] for kind in steps}
    yield 0
    for first in places[steps[0]]:
        done, place = 1, first
        for kind in steps[1:]:
            later = bisect_right(places[kind], place)
            if later == len(places[kind]) or events[places[kind][later]][0] - events[first][0] > window_us:
                break
            done, place = done + 1, places[kind][later]
        yield done


def heat_map(question):
    columns, lines = question.get("columns", 20), question.get("rows", 20)
    asked = about(question)
    # Where a click was is a 32-bit number, and so is its place in the grid: 0.7 of ten columns is the eighth.
    sql = f"""select case when x between 0 and 1 and y between 0 and 1 then least(floor(x * {columns}::float), {columns - 1})::int end as "column",
        case when x between 0 and 1 and y between 0 and 1 then least(floor(y * {lines}::float), {lines - 1})::int end as line, count(*)
        from {source(asked)} where kind = 'click' and verdict = 'counted' group by 1, 2 order by 2, 1"""
    found = rows(sql)
    clicks = sum(n for column, _, n in found if column is not None)
    bins = [{"column": c, "row": r, "clicks": n, "share": n / clicks} for c, r, n in found if c is not None]
    without = sum(n for column, _, n in found if column is None)
    return {"columns": columns, "rows": lines, "clicks": clicks, "without_position": without, "bins": bins}


def percentiles(question):
    groups = question.get("group_by", [])
    name, asked = question["property"], about(question, group_by=groups)
    if name == "time_to_convert_s":
        relation, value = transactions(asked), name
    else:
        relation = f"(select * from {source(asked)} where verdict = 'counted')"
        value = name
        if name.startswith("props."):
            path = literal('$."' + name.removeprefix("props.") + '"')
            value = f"case when json_type(props, {path}) in ('UBIGINT', 'BIGINT', 'DOUBLE', 'VARCHAR') then try_cast(json_extract_string(props, {path}) as double) end"
    wanted = question.get("percentiles", [50, 90, 95, 99])
    ranks = ", ".join(f"quantile_disc(value, {p / 100!r}::decimal(9, 6))" for p in wanted)
    keys = ", ".join(f"group_{at}" for at in range(len(groups)))
    sql = f"""select {keys + ', ' if keys else ''}count(*), sum(value), avg(value), min(value), max(value), {ranks}
        from (select *, {value} as value from {relation}) where value is not null"""
    found = rows(sql + (f" group by {keys} order by {', '.join(f'{key} nulls last' for key in keys.split(', '))}" if keys else ""))
    names = groups + ["count", "sum", "average", "least", "greatest"] + [f"p{p:g}" for p in wanted]
    return {"rows": [dict(zip(names, row)) for row in found], "exact": True, "method": "nearest_rank"}


MASK = (1 << 64) - 1


def mixed(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def sample(question, answer):
    seed = mixed(answer["seed"] + 0x9E3779B97F4A7C15 & MASK)
    columns = '"partition", "offset", event_id, kind, verdict, reason, campaign_id, cost_micros, occurred_us'
    found = rows(f"select {columns} from {source(about(question))}")
    found.sort(key=lambda row: mixed(mixed(row[0] << 48 ^ row[1]) ^ seed))
    told = []
    for partition, offset, id, kind, verdict, reason, campaign, cost, at in found[: question.get("size", 100)]:
        hexed = bytes(id).hex()
        id = "-".join([hexed[:8], hexed[8:12], hexed[12:16], hexed[16:20], hexed[20:]])
        told.append({"partition": partition, "offset": offset, "event_id": id, "kind": kind, "verdict": verdict, "reason": reason, "campaign_id": campaign, "cost_micros": cost, "occurred_us": at})
    for row in answer["rows"]:
        assert not [name for name in row if "hash" in name], row
        row["occurred_us"] = us(row["occurred_at"])
    names = ["partition", "offset", "event_id", "kind", "verdict", "reason", "campaign_id", "cost_micros", "occurred_us"]
    answer["rows"] = [{name: row.get(name) for name in names} for row in answer["rows"]]
    return {"rows": told, "matching": len(found)}


def history(question):
    """Whole windows only: those that begin and end within the time asked for."""
    unit, zone = question["unit"], question.get("time_zone") or "UTC"
    asked = about(question, metrics=[question["metric"]], group_by=[unit], fill="zero", limit=10**9)
    _, known = windows(unit, zone, us(question["from"]), us(question["to"]))
    _, around = windows(unit, zone, us(question["from"]) - QUARTER_US, us(question["to"]) + QUARTER_US)
    cut = {around[0][1], around[-1][1]}
    return [row for row in report(asked) if row[0] not in cut]


def series(question):
    told, unit = history(question), question["unit"]
    length = question.get("windows", {"hour": 24, "day": 7, "week": 4, "month": 12}[unit])
    values = [row[1] for row in told]
    mean = lambda of: sum(of) / len(of)
    lines = [
        {"at": at, "value": value, "moving_average": mean(values[n + 1 - length : n + 1]) if n + 1 >= length else None}
        for n, (at, value) in enumerate(told)
    ]
    # By the normal equations over x = 0, 1, ..
    n = len(values)
    sx, sy = n * (n - 1) / 2, sum(values)
    sxx, sxy = sum(x * x for x in range(n)), sum(x * y for x, y in enumerate(values))
    slope = (n * sxy - sx * sy) / (n * sxx - sx * sx)
    intercept = (sy - slope * sx) / n
    squares = sum((y - intercept - slope * x) ** 2 for x, y in enumerate(values))
    error = math.sqrt(squares / (n - 2) * n / (n * sxx - sx * sx))
    trend = {"slope": slope, "standard_error": error, "intercept": intercept}

    def places(name, of, enough):
        if n < 2 * enough:
            return []
        found = {}
        for at, value in told:
            found.setdefault(of(at), []).append(value)
        overall = mean([mean(of) for of in found.values()])
        return [{name: at, "windows": len(found[at]), "mean": mean(found[at]), "index": mean(found[at]) / overall if overall else None} for at in sorted(found)]

    weekday = lambda at: date.fromisoformat(at[:10]).isoweekday()
    hours = places("hour", lambda at: int(at[11:13]), 24) if unit == "hour" else []
    weekdays = places("weekday", weekday, {"hour": 168, "day": 7}[unit]) if unit in ("hour", "day") else []
    return {"series": lines, "windows": length, "trend": trend, "hours": hours, "weekdays": weekdays}


DAMPING = 0.98


def fitted_at(values, at, left, right, length, degree):
    """Loess at one place (counted from 0) by the points from left to right, with tricube weights (Cleveland et al. 1990)."""
    reach = max(at - left, right - at) + (max(0, length - len(values)) // 2)
    near = [(place, abs(place - at)) for place in range(left, right + 1)]
    weights = [(place, 1.0 if far <= 0.001 * reach else (1 - (far / reach) ** 3) ** 3) for place, far in near if far <= 0.999 * reach]
    total = sum(weight for _, weight in weights)
    if total <= 0:
        return None
    weights = [(place, weight / total) for place, weight in weights]
    if reach > 0 and degree > 0:
        middle = sum(weight * place for place, weight in weights)
        spread = sum(weight * (place - middle) ** 2 for place, weight in weights)
        if math.sqrt(spread) > 0.001 * (len(values) - 1):
            weights = [(place, weight * ((at - middle) / spread * (place - middle) + 1)) for place, weight in weights]
    return sum(weight * values[place] for place, weight in weights)


def loess(values, length, degree):
    """At every tenth of the length, and straight lines in between."""
    count, jump = len(values), min(math.ceil(length / 10), len(values) - 1)
    half, told = (length + 1) // 2, {}
    for at in sorted({*range(0, count, jump), count - 1}):
        left = 0 if length >= count else min(max(0, at + 1 - half), count - length)
        value = fitted_at(values, at, left, min(count, left + length) - 1, length, degree)
        told[at] = values[at] if value is None else value
    places = sorted(told)
    for low, high in zip(places, places[1:]):
        for at in range(low + 1, high):
            told[at] = told[low] + (told[high] - told[low]) / (high - low) * (at - low)
    return [told[at] for at in range(count)]


def moving_average(values, length):
    return [sum(values[at : at + length]) / length for at in range(len(values) - length + 1)]


def without_season(values, season):
    """The values without their season, and the season as it was last, by STL as Cleveland et al. have it: two passes, a season smoothed over eleven."""
    if not season or len(values) < 2 * season:
        return values, [0.0]
    odd = lambda number: math.ceil(number) | 1
    trend = [0.0] * len(values)
    for _ in range(2):
        cycles = [0.0] * (len(values) + 2 * season)
        for place in range(season):
            own = [value - part for value, part in zip(values[place::season], trend[place::season])]
            before = fitted_at(own, -1, 0, min(11, len(own)) - 1, 11, 0)
            after = fitted_at(own, len(own), max(0, len(own) - 11), len(own) - 1, 11, 0)
            inner = loess(own, 11, 0)
            cycles[place::season] = [inner[0] if before is None else before, *inner, inner[-1] if after is None else after]
        low_pass = loess(moving_average(moving_average(moving_average(cycles, season), season), 3), odd(season), 1)
        told = [cycle - low for cycle, low in zip(cycles[season:], low_pass)]
        trend = loess([value - part for value, part in zip(values, told)], odd(1.5 * season / (1 - 1.5 / 11)), 1)
    return [value - part for value, part in zip(values, told)], told[-season:]


def smoothed(values, season):
    """ETS(A,Ad,N) of what is left without the season, as decision 26 describes it: the variance of the errors of one step, the weights, and the state
    at the end: level, trend, and the season from the next point on."""
    if len(values) < 6:
        return None
    rest, season = without_season(values, season)
    first, freedom = sum(rest[: len(season)]) / len(season), len(rest) - 3 - (len(season) - 1)
    tried = []
    for alpha in (0.02, 0.05, 0.2, 0.4, 0.6, 0.8):
        for beta in (0.0, 0.02, 0.1):
            level, trend, square = first, 0.0, 0.0
            for value in rest:
                error = value - (level + DAMPING * trend)
                level, trend = level + DAMPING * trend + alpha * error, DAMPING * trend + beta * error
                square += error * error
            tried.append((square / max(freedom, len(rest) / 4), (alpha, beta, 0.0), [level, trend, *season]))
    return min(tried, key=lambda one: one[0]), len(season)


def moved(state):
    """One step of the state's transition, which is linear."""
    return [state[0] + DAMPING * state[1], DAMPING * state[1], *state[3:], state[2]]


def gains(alpha, beta, gamma, length):
    return [alpha, beta] + [0.0] * (length - 1) + [gamma]


def ahead(values, season, horizon, confidence):
    """By the general formula for linear models: the variance of step h is that of one step times 1 + sum of (w F^(j-1) g)^2, j < h."""
    fitted = smoothed(values, season)
    if fitted is None:
        return None
    (variance, weights, state), length = fitted
    seen = lambda state: state[0] + DAMPING * state[1] + state[2]
    floor = 0.0 if min(values) >= 0 else -math.inf
    critical, effect, spread, told = normal_quantile(0.5 + confidence / 2), gains(*weights, length), 1.0, []
    trend = state[1]
    for _ in range(horizon):
        value, half = seen(state), critical * math.sqrt(variance * spread)
        told.append({"value": max(value, floor), "low": max(value - half, floor), "high": max(value + half, floor)})
        spread += seen(effect) ** 2
        state, effect = moved(state), moved(effect)
    return told, trend, length if length > 1 else None


def forecast(question):
    known = history(question)
    values, horizon, confidence = [float(value) for _, value in known], question["horizon"], question.get("confidence", 0.95)
    season = {"hour": 24, "day": 7, "week": None}[question["unit"]]
    held_out = max(1, min(horizon, len(values) // 4))
    told, tried = ahead(values, season, horizon, confidence), ahead(values[:-held_out], season, held_out, confidence)
    answer = {"history": [{"at": at, "value": value} for at, value in known]}
    if told is None or tried is None:
        return answer | {"forecast": [], "trend": None, "season_length": None, "backtest": None}
    came = values[-held_out:]
    within = sum(one["low"] <= value <= one["high"] for one, value in zip(tried[0], came))
    errors = [abs((one["value"] - value) / value) for one, value in zip(tried[0], came) if value]
    backtest = {"points": held_out, "mape": sum(errors) / len(errors) if errors else None, "coverage": within / held_out}
    return answer | {"forecast": told[0], "trend": told[1], "season_length": told[2], "backtest": backtest}


# Comparing.

compared = 0


def differences(place, expected, found, tolerance):
    global compared
    if isinstance(expected, dict):
        for name, value in expected.items():
            if not isinstance(found, dict) or name not in found:
                yield f"{place}.{name}: expected {value!r}, found nothing"
            else:
                yield from differences(f"{place}.{name}", value, found[name], tolerance.get(name, tolerance))
        return
    if isinstance(expected, list):
        if not isinstance(found, list) or len(expected) != len(found):
            yield f"{place}: expected {len(expected)} of them, found {len(found) if isinstance(found, list) else found!r}"
            return
        for at, (one, other) in enumerate(zip(expected, found)):
            yield from differences(f"{place}[{at}]", one, other, tolerance)
        return
    compared += 1
    if isinstance(expected, bool) or isinstance(expected, str) or expected is None:
        same = type(expected) is type(found) and expected == found
    elif not isinstance(found, (int, float)) or isinstance(found, bool):
        same = False
    elif "~share" in tolerance:
        same = abs(expected - found) <= max(2, tolerance["~share"] * expected)
    elif isinstance(expected, int) and isinstance(found, int):
        same = expected == found
    else:
        same = math.isclose(float(expected), float(found), rel_tol=1e-9, abs_tol=tolerance.get("~absolute", 1e-12))
    if not same:
        yield f"{place}: expected {expected!r}, found {found!r}"


ANALYSES = {
    "top": top,
    "compare": compare,
    "ab-test": ab_test,
    "funnel": funnel,
    "heatmap": heat_map,
    "percentiles": percentiles,
    "series": series,
    "forecast": forecast,
}


def main():
    load(sys.argv[1])
    wrong = []
    with open(sys.argv[2]) as file:
        asked = json.load(file)
    for at, one in enumerate(asked):
        path, question, answer = one["path"], one["question"], one["answer"]
        name = path.rsplit("/", 1)[-1]
        # Distinct people are an estimate where rollups told them: within five of its standard errors.
        estimated = answer["meta"].get("users")
        tolerance = {"users": {"~share": 5 * estimated["relative_standard_error"]}} if estimated else {}
        if name == "query":
            columns = question.get("group_by", []) + question["metrics"]
            expected = {"rows": [dict(zip(columns, row)) for row in report(question)]}
        elif name == "sample":
            expected = sample(question, answer)
        else:
            expected = ANALYSES[name](question)
        if name in ("series", "percentiles", "forecast"):
            # Sums in another order differ in their last bits, and those of differences of large numbers in more.
            tolerance = {"~absolute": 1e-6}
        found = list(differences(name, expected, answer, tolerance))
        if found:
            wrong.append(f"{at}: {path} {json.dumps(question)}\n  " + "\n  ".join(found[:5]))
    print("\n".join(wrong[:20]))
    print(json.dumps({"answers": len(asked), "figures": compared, "wrong": len(wrong)}))


main()
