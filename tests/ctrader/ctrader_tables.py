"""The protocol's published tables, and an independent codec built from nothing but them."""

import csv
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SCALARS = {
    "int32": 5,
    "int64": 3,
    "uint32": 13,
    "uint64": 4,
    "bool": 8,
    "double": 1,
    "string": 9,
    "bytes": 12,
}


@cache
def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def messages(data_dir: Path) -> dict[str, dict[str, dict[str, str]]]:
    found: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows(data_dir / "ctrader_openapi" / "messages.tsv"):
        found.setdefault(row["message"], {})[row["field"]] = row
    return found


def enums(data_dir: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for row in rows(data_dir / "ctrader_openapi" / "enums.tsv"):
        found.setdefault(row["enum"], {})[row["name"]] = int(row["number"])
    return found


@cache
def peer(data_dir: Path) -> dict[str, Any]:
    """Message classes of Google's protobuf runtime for every message of the tables (enums as int32)."""
    known_enums = enums(data_dir)
    file = descriptor_pb2.FileDescriptorProto(name="tables.proto", package="t", syntax="proto2")
    labels = {"optional": 1, "required": 2, "repeated": 3}
    for name, fields in messages(data_dir).items():
        message = file.message_type.add(name=name)
        for row in fields.values():
            field = message.field.add(
                name=row["field"], number=int(row["number"]), label=labels[row["label"]]
            )
            if row["type"] in SCALARS:
                field.type = SCALARS[row["type"]]
            elif row["type"] in known_enums:
                field.type = 5
            else:
                field.type = 11
                field.type_name = f".t.{row['type']}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{name}"))
        for name in messages(data_dir)
    }
