#!/usr/bin/env python3
"""Makes parquet/: small files of rows in the forms in which other programs write them. Needs pyarrow (26 made these).

usage: make_parquet.py
"""
import datetime
import decimal
import json
import pathlib
import uuid

import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = pathlib.Path(__file__).resolve().parent / "parquet"
UTC = datetime.timezone.utc


def write(name, table, **options):
    pq.write_table(table, FOLDER / name, **{"compression": "gzip", "write_page_checksum": True, "write_statistics": False, **options})


def kinds():
    """A column of every kind, and beside the file what each value is in JSON."""
    moment = datetime.datetime(2024, 5, 1, 12, 30, 0, 250000)
    columns = {  # kind, values, what they are
        "bool": (pa.bool_(), [True, None, False], [True, None, False]),
        "int8": (pa.int8(), [-128, None, 127], [-128, None, 127]),
        "int64": (pa.int64(), [-2**63, None, 2**63 - 1], [-2**63, None, 2**63 - 1]),
        "uint64": (pa.uint64(), [0, None, 2**64 - 1], [0, None, 2**64 - 1]),
        "half": (pa.float16(), [0.5, None, -2.0], [0.5, None, -2.0]),
        "float": (pa.float32(), [0.1, None, float("inf")], [0.1, None, None]),
        "double": (pa.float64(), [0.1, float("nan"), 8.0], [0.1, None, 8.0]),
        "string": (pa.string(), ["", None, "é \U0001f600 \0"], ["", None, "é \U0001f600 \0"]),
        "large": (pa.large_string(), ["a", None, "b" * 300], ["a", None, "b" * 300]),
        "binary": (pa.binary(), [b"text", None, b"more"], ["text", None, "more"]),
        "fixed": (pa.binary(4), [b"four", None, b"five"], ["four", None, "five"]),
        "words": (pa.dictionary(pa.int32(), pa.string()), ["red", None, "red"], ["red", None, "red"]),
        "ids": (pa.list_(pa.int32()), [[1, 2], None, [3, None]], [[1, 2], None, [3, None]]),
        "lists": (pa.list_(pa.list_(pa.string())), [[["a"], []], [], None], [[["a"], []], [], None]),
        "long_lists": (pa.large_list(pa.bool_()), [[True], [], None], [[True], [], None]),
        "pairs": (pa.list_(pa.int8(), 2), [[1, 2], [3, 4], [5, 6]], [[1, 2], [3, 4], [5, 6]]),
        "struct": (pa.struct({"x": pa.int8(), "y": pa.list_(pa.string())}), [{"x": 1, "y": ["a"]}, None, {"x": None, "y": []}],
                   [{"x": 1, "y": ["a"]}, None, {"x": None, "y": []}]),
        "map": (pa.map_(pa.string(), pa.int8()), [[("a", 1), ("b", None)], None, []], [{"a": 1, "b": None}, None, {}]),
        "number_map": (pa.map_(pa.int8(), pa.string()), [[(1, "a")], None, [(2, "b")]], [[[1, "a"]], None, [[2, "b"]]]),
        "date": (pa.date32(), [moment.date(), None, datetime.date(1969, 12, 31)], ["2024-05-01", None, "1969-12-31"]),
        "time": (pa.time64("us"), [moment.time(), None, datetime.time(0, 0, 1)], ["12:30:00.250", None, "00:00:01"]),
        "seconds": (pa.timestamp("ms"), [moment, None, datetime.datetime(1969, 12, 31, 23, 59, 59)],
                    ["2024-05-01T12:30:00.250", None, "1969-12-31T23:59:59"]),
        "zoned": (pa.timestamp("us", "Europe/Berlin"), [moment.replace(tzinfo=UTC), None, moment.replace(microsecond=1, tzinfo=UTC)],
                  ["2024-05-01T12:30:00.250Z", None, "2024-05-01T12:30:00.000001Z"]),
        "nanoseconds": (pa.timestamp("ns"), [1, None, -1], ["1970-01-01T00:00:00.000000001", None, "1969-12-31T23:59:59.999999999"]),
        "decimal": (pa.decimal128(9, 2), [decimal.Decimal("12.50"), None, decimal.Decimal("-0.01")], ["12.50", None, "-0.01"]),
        "uuid": (pa.uuid(), [uuid.UUID(int=1), None, uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")],
                 ["00000000-0000-0000-0000-000000000001", None, "12345678-9abc-def0-1234-56789abcdef0"]),
        "nothing": (pa.null(), [None, None, None], [None, None, None]),
    }
    table = pa.table({name: pa.array(values, kind) for name, (kind, values, _) in columns.items()})
    write("kinds.parquet", table, row_group_size=2)
    with open(FOLDER / "kinds.jsonl", "w", encoding="utf-8") as file:
        for row in range(3):
            file.write(json.dumps({name: meant[row] for name, (_, _, meant) in columns.items()}) + "\n")


def requests():
    """As a table program leaves it: ids are numbers, integers with gaps are floats."""
    write("requests.parquet", pa.table({
        "custom_id": pa.array([7, 8, None, 10, 10], pa.int64()),
        "prompt": pa.array(["x, \"y\"\nz", "é", "x, \"y\"\nz", None, "again"]).dictionary_encode(),
        "max_tokens": pa.array([3.0, float("nan"), None, 5.0, 6.5], pa.float64()),
        "stop": pa.array([["\n", "."], [], None, None, None], pa.list_(pa.large_string())),
        "label": pa.array(["a", "b", None, "d", "e"])}), row_group_size=2)


def batch():
    body = [{"model": "m", "prompt": f"row {i}", "max_tokens": 4 + i, "stop": None} for i in range(2)]
    write("batch.parquet", pa.table({"custom_id": ["a", "b"], "method": ["POST"] * 2, "url": ["/v1/completions", "/v1/chat/completions"],
                                     "body": body}))


def groups():
    """Three row groups of the same size, of texts that do not pack well."""
    texts = [" ".join(str(pow(7, 31 * i + k, 1000003)) for k in range(20)) for i in range(60)]
    write("groups.parquet", pa.table({"custom_id": [f"r{i}" for i in range(60)], "prompt": texts}), row_group_size=20,
          store_schema=False)


def large():
    """A kilobyte a row, 200 MB in one row group when it is unpacked."""
    prompts = pa.DictionaryArray.from_arrays(pa.array([i % 3 for i in range(200_000)], pa.int8()),
                                             pa.array([letter * 1000 for letter in "abc"]))
    write("large.parquet", pa.table({"prompt": prompts.cast(pa.string())}), row_group_size=200_000, store_schema=False)


def wrong():
    write("not_utf8.parquet", pa.table({"custom_id": ["a", "b"], "prompt": pa.array([b"\xff", b"fine"], pa.binary())}))
    write("twice.parquet", pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], ["prompt", "prompt"]))
    write("empty.parquet", pa.table({"prompt": pa.array([], pa.string())}))


def main():
    FOLDER.mkdir(exist_ok=True)
    for make in (kinds, requests, batch, groups, large, wrong):
        make()


if __name__ == "__main__":
    main()
