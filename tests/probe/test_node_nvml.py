# SPDX-License-Identifier: Apache-2.0
"""The NVML part, with a library of our own in the place of NVIDIA's."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.model import SourceId
from fleet_audit.probe import pack
from tests.probe.helpers import Asked, ask, command, source

pytestmark = pytest.mark.slow

Fake = Callable[[str], None]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("no NVML library can be played here: gcc is not installed")
    folder = tmp_path_factory.mktemp("nvml")
    code = Path(__file__).with_name("fake_nvml.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", str(folder / "libnvidia-ml.so.1"), str(code)], check=True)
    return folder


@pytest.fixture
def fake(library: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(library))
    return lambda how: monkeypatch.setenv("FAKE_NVML", how)


def read(**args: Any) -> tuple[Asked, list[dict[str, Any]]]:
    asked = ask([source("nv", "nvml", **args), command("after", "echo", "x")])
    assert asked.reply.end is not None and asked.status("after") == "ok"
    return asked, [json.loads(line) for line in asked["nv"].body.splitlines()]


def value(rows: list[dict[str, Any]], name: str, index: int | None = None) -> Any:
    return next(row.get("value", row.get("error")) for row in rows if row["name"] == name and row.get("index") == index)


def test_gpus_give_a_row_for_each_call_and_functions_that_are_missing_an_error(fake: Fake) -> None:
    asked, rows = read()
    assert asked.status("nv") == "ok" and rows[-1] == {"name": "end", "scope": "system", "value": True}
    assert value(rows, "driver_version") == "580.95.05" and value(rows, "count") == 2
    assert [value(rows, "uuid", n) for n in (0, 1)] == ["GPU-1", "GPU-2"] and value(rows, "ecc", 0) == 13


def test_inforom_is_validated_after_everything_else(fake: Fake) -> None:
    _, rows = read()
    assert [row["name"] for row in rows[-3:]] == ["inforom_valid", "inforom_valid", "end"]
    assert (rows[-3], rows[-2]["error"]) == ({"index": 0, "name": "inforom_valid", "scope": "gpu", "value": None}, 14)


def test_slow_flash_is_not_waited_for_on_every_gpu(fake: Fake) -> None:
    fake("slow flash")
    asked, rows = read()
    assert asked.status("nv") == "ok" and [row.get("index") for row in rows if row["name"] == "inforom_valid"] == [0]


def test_library_that_is_not_there_is_an_error_of_init_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, rows = read()
    if "value" in rows[0]:
        pytest.skip("this machine has NVIDIA's library")
    assert asked.status("nv") == "failed" and rows == [{"error": 12, "name": "init", "scope": "system"}]


def test_driver_that_is_not_loaded_stops_after_init(fake: Fake) -> None:
    fake("unloaded")
    asked, rows = read()
    assert asked.status("nv") == "failed" and rows == [{"error": 9, "name": "init", "scope": "system"}]


def test_library_that_hangs_is_timeout(fake: Fake) -> None:
    fake("hang")
    asked, rows = read(timeout_s=0.7)
    assert asked.status("nv") == "timeout" and rows == [] and asked.wall < 5


def test_library_that_burns_cpu_is_ended_by_its_limit(fake: Fake) -> None:
    fake("spin")
    asked = ask([source("nv", "nvml"), command("after", "echo", "x")], cpu=1.0)
    assert asked.status("nv") in ("failed", "timeout") and asked.reply.end is not None and asked.wall < 15


@pytest.mark.parametrize("how", ["crash", "crash late"])
def test_library_that_crashes_is_failed_and_the_rows_before_it_are_kept(fake: Fake, how: str) -> None:
    fake(how)
    asked, rows = read()
    assert asked.status("nv") == "failed" and "signal" in asked["nv"].detail
    assert len(rows) == 0 if how == "crash" else value(rows, "uuid", 0) == "GPU-1"
    assert not any(row["name"] == "end" for row in rows)


def test_what_the_library_prints_is_no_row(fake: Fake) -> None:
    fake("noisy")
    asked, rows = read()
    assert asked.status("nv") == "ok" and rows[0]["name"] == "init" and b"noise" not in asked["nv"].body


def test_gpu_that_fell_off_the_bus_is_a_row_and_the_other_is_read(fake: Fake) -> None:
    fake("lost")
    _, rows = read()
    assert value(rows, "handle", 1) == 15 and value(rows, "uuid", 0) == "GPU-1" and rows[-1]["name"] == "end"


def test_absurd_number_of_gpus_is_bounded(fake: Fake) -> None:
    fake("many")
    asked, rows = read()
    assert asked.status("nv") == "ok" and len({row["index"] for row in rows if "index" in row}) == 64


def test_bytes_that_are_no_text_cost_their_own_row_alone(fake: Fake) -> None:
    fake("binary")
    _, rows = read()
    assert value(rows, "name", 0).startswith("UnicodeDecodeError") and value(rows, "uuid", 0) == "GPU-1" and rows[-1]["name"] == "end"


def test_part_is_sent_only_where_its_condition_holds(fake: Fake, tmp_path: Path) -> None:
    nv = source("nv", "nvml", when_exists=f"{tmp_path}/driver", otherwise=SourceId("smi"))
    asked = ask([nv, command("smi", "echo", "smi")])
    assert asked.status("nv") == "skipped" and asked.status("smi") == "ok"
    assert b" nvml\n" not in bytes(asked.talk.reply), "it was not asked for"


def test_part_that_is_not_the_one_that_the_program_names_is_not_run() -> None:
    good = pack.build([source("nv", "nvml"), command("after", "echo", "x")])
    other = pack.Program(text=good.text, nvml=b"import os; os._exit(0)")
    asked = ask([source("nv", "nvml"), command("after", "echo", "x")], program=other)
    assert asked.status("nv") == "failed" and "not the one" in asked["nv"].detail and asked.status("after") == "ok"


def test_fallback_is_read_where_the_part_failed(fake: Fake) -> None:
    fake("crash")
    asked = ask([source("nv", "nvml", otherwise=SourceId("smi")), command("smi", "echo", "smi")])
    assert (asked.status("nv"), asked.status("smi")) == ("failed", "ok")
