"""What a run used: processor time, and energy from counters that start over."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rebus.training import hardware as machine
from rebus.training.hardware import Meter, machine_facts


def counter(folder: Path, name: str, micro: int, most: int = 1_000_000) -> Path:
    path = folder / name
    path.mkdir(parents=True)
    (path / "energy_uj").write_text(str(micro))
    (path / "max_energy_range_uj").write_text(str(most))
    return path / "energy_uj"


def test_energy_is_that_of_whole_packages_and_counters_may_start_over(tmp_path: Path) -> None:
    first, second = counter(tmp_path, "intel-rapl:0", 900_000), counter(tmp_path, "intel-rapl:1", 10)
    counter(tmp_path, "intel-rapl:0:0", 5)  # a part of the first
    meter = Meter(tmp_path)
    first.write_text("400000")  # it started over at 1,000,000
    second.write_text("2000010")
    assert meter.read()["joules"] == pytest.approx(0.5 + 2.0)


def test_without_readable_counters_there_is_no_energy(tmp_path: Path) -> None:
    path = counter(tmp_path, "intel-rapl:0", 5)
    path.write_text("not a number")
    assert "joules" not in Meter(tmp_path).read()
    assert "joules" not in Meter(tmp_path / "none").read()


def test_counters_are_read_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "OFTEN", 0.02)
    path = counter(tmp_path, "intel-rapl:0", 0)
    meter = Meter(tmp_path)
    path.write_text("600000")
    time.sleep(0.3)
    path.write_text("100000")  # more than once around would be missed without the reading between
    assert meter.read()["joules"] == pytest.approx(0.6 + 0.5)


def test_busy_cores_are_counted(tmp_path: Path) -> None:
    meter, until = Meter(tmp_path), time.process_time() + 0.3
    while time.process_time() < until:
        pass
    used = meter.read()
    assert 0 < used["cores_used"] <= 1.2
    assert used["cores_used"] * used["metered"] == pytest.approx(0.3, abs=0.12)


def test_facts_name_the_machine_and_not_its_owner() -> None:
    facts = machine_facts()
    assert facts["cores"] >= 1
    assert {"rebus", "python", "torch"} <= set(facts["versions"])
    assert str(Path.home()) not in str(facts)
    import platform

    assert platform.node() not in str(facts.values()) or len(platform.node()) < 4
