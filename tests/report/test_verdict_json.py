"""verdict.json: strict, whole, and free of what is not a number."""

from __future__ import annotations

import dataclasses
import json
import math

import jsonschema
import pytest

import accel
from accel.evidence import EXIT_CODES, METRICS, Budget, Cell, Epoch, Fitness, Report, Rules
from accel.gating import verdicts
from accel.report import verdict_json

SCHEMA = json.loads(verdict_json.SCHEMA.read_text(encoding="utf-8"))


def _read(report: Report) -> dict:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    document = json.loads(verdict_json.text(report), parse_constant=no_constant)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    return document["data"]


def test_the_schema_is_a_schema() -> None:
    """It holds to the draft that it names."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_every_report_holds_to_the_schema(any_report) -> None:
    """Hostile names, 200 cells, nothing at all: one schema."""
    assert _read(any_report)["outcome"] == any_report.outcome


@pytest.mark.parametrize("outcome", EXIT_CODES)
def test_every_outcome_has_its_exit_code(make, outcome) -> None:
    """Programs read the number that the command ended with."""
    assert _read(make(outcome))["exit_code"] == EXIT_CODES[outcome]


def test_names_are_kept_as_they_are(hostile) -> None:
    """Only files for people are cleaned: a program gets the name itself."""
    assert _read(hostile)["name"] == hostile.name


def test_an_open_end_is_null(hostile) -> None:
    """NaN and infinity have no number in JSON."""
    second = _read(hostile)["cells"][1]
    assert second["ratio"] is second["low"] is second["high"] is second["e_fail"] is None


def test_every_figure_of_a_cell_and_every_log_is_there(make) -> None:
    """What the gate decided from can be read back."""
    report = make()
    found, seen = _read(report), report.judgement.cells[0]
    told = found["cells"][0]
    for field in dataclasses.fields(Cell):
        if field.name != "budget":
            assert told[field.name] == getattr(seen, field.name)
    assert [e["logs"] for e in found["epochs"]] == [dict(e.logs) for e in report.epochs]
    assert found["evidence"] == {"folder": str(report.evidence), "epochs": 14, "head": "e" * 64}
    assert found["tool"] == {"name": "accel", "version": accel.__version__}
    assert found["candidate"]["engine"] == "onnxruntime_cpu"


def test_every_field_of_the_report_is_in_the_document() -> None:
    """A new field that is forgotten here, or in the schema, is found."""
    data = SCHEMA["properties"]["data"]["properties"]
    flat = {"cells", "fitness", "done", "reasons", "tool", "exit_code", "config_digest"}
    inside = {"judgement", "evidence_head"}  # in flat, and in evidence
    assert set(data) == {f.name for f in dataclasses.fields(Report)} - inside | flat
    for kind, name in ((Cell, "cell"), (Epoch, "epoch"), (Rules, "rules"), (Fitness, "fitness")):
        extra = {"cell"} if kind is Cell else set()
        assert set(SCHEMA["$defs"][name]["properties"]) - extra == {
            f.name for f in dataclasses.fields(kind)
        }
    budget = SCHEMA["$defs"]["budget"]["properties"]
    assert set(budget) == {f.name for f in dataclasses.fields(Budget)}
    assert set(budget["metric"]["enum"]) == set(METRICS)
    assert set(SCHEMA["$defs"]["outcome"]["enum"]) == set(EXIT_CODES)


@pytest.mark.parametrize("place", [(), ("data",), ("data", "cells", 0), ("data", "rules")])
def test_the_schema_refuses_what_it_does_not_know(make, place) -> None:
    """An unknown key, at any level, is an error."""
    document = json.loads(verdict_json.text(make()))
    part = document
    for key in place:
        part = part[key]
    part["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError, match="surprise"):
        jsonschema.Draft202012Validator(SCHEMA).validate(document)


def test_who_blesses_reads_it(make, tmp_path) -> None:
    """A release becomes the baseline on the grounds of this file."""
    path = tmp_path / "verdict.json"
    path.write_text(verdict_json.text(make()), encoding="utf-8")
    found = verdicts.read(path)
    assert (found.outcome, found.candidate, found.baseline) == ("fail", "c" * 64, "b" * 64)
    assert found.budgets == (Budget("p50", 0.03),)
    assert found.ratio == {"p50": 1.052}


def test_the_same_report_gives_the_same_bytes(make) -> None:
    """A digest of the file means something."""
    assert verdict_json.text(make()) == verdict_json.text(make())


def test_another_budget_is_another_question(make) -> None:
    """The config's digest tells gates apart that asked for different things."""
    other = dataclasses.replace(make().judgement.cells[0], budget=Budget("p50", 0.05))
    one, same = verdict_json.config_digest(make()), verdict_json.config_digest(make())
    assert one == same != verdict_json.config_digest(make("fail", [other]))


def test_a_limit_that_is_no_number_is_still_json(make) -> None:
    """Even a budget that should never have been."""
    odd = dataclasses.replace(make().judgement.cells[0], budget=Budget("p50", math.inf))
    assert _read(make("fail", [odd]))["cells"][0]["budget"]["limit"] is None
