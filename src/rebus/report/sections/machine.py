"""Time, machine and an estimate of the energy that training took, with how the estimate was made."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

import torch

from rebus.catalogue import translator
from rebus.loop.progress import clock_time
from rebus.report.contents import Section
from rebus.report.sections.subject import Subject


def machine_rows(subject: Subject) -> list[tuple[str, str]]:
    """How long it took on what: (name, value) pairs."""
    texts, trained = translator("machine", subject.lang), subject.trained
    machine = trained.get("machine", {})
    seconds = float(trained.get("seconds", 0.0))
    spent = texts("spent", minutes=seconds / 60, seconds=seconds, precision=trained.get("precision", ""))
    rows = [(texts("training"), spent.rstrip(", ，"))]
    if "judging" in trained:
        rows.append((texts("time"), time_line(trained, subject.lang)))
    if trained.get("seconds_in_all"):
        rows.append((texts("in_all"), texts("minutes", minutes=trained["seconds_in_all"] / 60)))
    cores = str(machine.get("cores", os.cpu_count()))
    if trained.get("cores_used"):
        cores = texts("used", cores=cores, used=trained["cores_used"] * trained.get("processes", 1))
    rows += [
        (texts("processor"), f"{machine.get('processor', '')} ({machine.get('architecture', platform.machine())})"),
        (texts("cores"), cores),
    ]
    for name, key, unit in (("memory", "memory_gib", " GiB"), ("gpu", "gpu", ""), ("system", "system", "")):
        if machine.get(key):
            rows.append((texts(name), f"{machine[key]}{unit}"))
    versions = machine.get("versions", {})
    rows.append(("torch", str(versions.get("torch", torch.__version__))))
    if not machine:
        rows.append(("", texts("now")))
    return [(name, value.strip()) for name, value in rows]


def time_line(trained: Mapping[str, Any], lang: str, report: float | None = None) -> str:
    """Where the time went: ``limit 3:00; reading and preparing 0:10; training 2:58 (...); evaluation 0:31``."""
    parts = {
        "limit": trained.get("time_limit") or None,
        "reading": trained.get("reading", 0.0),
        "trained": trained.get("seconds", 0.0),
        "judging": trained.get("judging", 0.0),
        "report": report,
    }
    texts = translator("machine", lang)
    inside = {key: clock_time(trained.get(key, 0.0)) for key in ("validating", "saving")}
    spans = [
        texts(name, **inside, seconds=clock_time(seconds)) for name, seconds in parts.items() if seconds is not None
    ]
    return ("；" if lang == "zh" else "; ").join(spans)


def energy(subject: Subject) -> Section | None:
    """What training took, read or estimated; None where no training time is known."""
    texts, trained = translator("machine", subject.lang), subject.trained
    seconds = float(trained.get("seconds", 0.0))
    if not seconds:
        return None
    hours, how = seconds / 3600, ""
    if trained.get("joules") and trained.get("metered"):
        share = seconds / trained["metered"]
        amount = trained["joules"] / 3600 * share
        how = texts("read")
        if abs(share - 1) > 0.05:
            how += " " + texts("scaled", metered=trained["metered"], seconds=seconds)
    else:
        cores = trained.get("machine", {}).get("cores", os.cpu_count() or 1)
        used = trained.get("cores_used", cores) * (trained.get("processes", 1) if "cores_used" in trained else 1)
        watts = subject.recipe.report.watts_per_core
        amount = used * hours * watts
        known = texts("measured_cores" if "cores_used" in trained else "all_cores")
        how = texts("estimated", used=used, how=known, hours=hours, watts=watts)
    left = texts("left_out")
    if trained.get("machine", {}).get("gpu"):
        left = f"{left} {texts('gpu_out')}"
    digits = f"{amount:.3f}" if amount < 0.1 else f"{amount:.2f}" if amount < 10 else f"{amount:,.0f}"
    facts = [
        (texts("energy"), texts("watt_hours", amount=digits)),
        (texts("how"), how),
        (texts("assumes"), left),
    ]
    return Section("energy", texts("title"), facts=facts, after="machine")


def versions_of(subject: Subject) -> dict[str, Any]:
    """Packages and their versions, as they were when it was trained."""
    result: dict[str, Any] = subject.trained.get("machine", {}).get("versions", {})
    return result
