"""Time, machine and an estimate of the energy that training took, with how the estimate was made."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

import torch

from rebus.loop.progress import clock_time
from rebus.report.contents import Section
from rebus.report.sections.subject import Subject

SAID: dict[str, dict[str, str]] = {
    "en": {
        "training": "training",
        "spent": "{minutes:.1f} minutes ({seconds:,.0f} s), {precision}",
        "time": "time",
        "limit": "limit {0}",
        "reading": "reading and preparing {0}",
        "trained": "training {0} (validation {1}, checkpoints {2})",
        "judging": "evaluation {0}",
        "report": "report {0}",
        "in_all": "all in all, without this report",
        "minutes": "{minutes:.1f} minutes",
        "processor": "processor",
        "cores": "CPU cores",
        "used": "{cores}, of which {used:.1f} were busy on average",
        "memory": "memory",
        "gpu": "GPU",
        "system": "system",
        "now": "The machine that wrote this report; this Run does not say what it was trained on.",
        "title": "Energy",
        "energy": "energy of training",
        "watt_hours": "about {amount} Wh",
        "how": "how it was found",
        "assumes": "what it leaves out",
        "estimated": "An estimate: {used:.2f} cores busy on average ({how}) x {hours:.4f} hours x {watts:g} W a core "
        "(report.watts_per_core in the recipe; the rated power of server processors divided by their cores is about 4 "
        "to 7 W).",
        "measured_cores": "processor time divided by time on the clock, measured while it trained",
        "all_cores": "not measured by this Run: all cores are taken to be busy",
        "read": "Read from the processor's own counters (RAPL) while it trained: all that ran on the machine counts.",
        "scaled": "The counters were read for {metered:,.0f} of {seconds:,.0f} seconds, the rest is taken to be alike.",
        "left_out": "Memory, disks, cooling and what power supplies lose are not counted; neither are earlier tries, "
        "the making of the data or answering questions.",
        "gpu_out": "The GPU is not counted, and it takes most of the energy where there is one.",
    },
    "zh": {
        "training": "训练",
        "spent": "{minutes:.1f} 分钟（{seconds:,.0f} 秒），{precision}",
        "time": "用时",
        "limit": "时限 {0}",
        "reading": "读取与准备 {0}",
        "trained": "训练 {0}（其中验证 {1}，检查点 {2}）",
        "judging": "评测 {0}",
        "report": "报告 {0}",
        "in_all": "总共（不含这份报告）",
        "minutes": "{minutes:.1f} 分钟",
        "processor": "处理器",
        "cores": "CPU 核数",
        "used": "{cores}，平均有 {used:.1f} 个在忙",
        "memory": "内存",
        "gpu": "GPU",
        "system": "系统",
        "now": "这是写报告的机器；这个 Run 没有记下训练时的机器。",
        "title": "能耗",
        "energy": "训练能耗",
        "watt_hours": "约 {amount} Wh",
        "how": "如何得出",
        "assumes": "没有计入的部分",
        "estimated": "估计值：平均 {used:.2f} 个核在忙（{how}）x {hours:.4f} 小时 x 每核 {watts:g} W"
        "（配置中的 report.watts_per_core；服务器处理器的额定功率除以核数约为 4 至 7 W）。",
        "measured_cores": "训练时测得的处理器时间除以时钟时间",
        "all_cores": "这个 Run 没有测量：按所有核都在忙计算",
        "read": "训练时读自处理器自带的计数器（RAPL）：机器上运行的一切都算在内。",
        "scaled": "计数器读了 {seconds:,.0f} 秒中的 {metered:,.0f} 秒，其余时间按相同功率计算。",
        "left_out": "内存、硬盘、散热和电源损耗没有计入；之前的尝试、数据制作和回答问题也没有计入。",
        "gpu_out": "GPU 没有计入；有 GPU 时，大部分能耗来自它。",
    },
}


def machine_rows(subject: Subject) -> list[tuple[str, str]]:
    """How long it took on what: (name, value) pairs."""
    said, trained = SAID[subject.lang], subject.trained
    machine = trained.get("machine", {})
    seconds = float(trained.get("seconds", 0.0))
    spent = said["spent"].format(minutes=seconds / 60, seconds=seconds, precision=trained.get("precision", ""))
    rows = [(said["training"], spent.rstrip(", ，"))]
    if "judging" in trained:
        rows.append((said["time"], time_line(trained, subject.lang)))
    if trained.get("seconds_in_all"):
        rows.append((said["in_all"], said["minutes"].format(minutes=trained["seconds_in_all"] / 60)))
    cores = str(machine.get("cores", os.cpu_count()))
    if trained.get("cores_used"):
        cores = said["used"].format(cores=cores, used=trained["cores_used"] * trained.get("processes", 1))
    rows += [
        (said["processor"], f"{machine.get('processor', '')} ({machine.get('architecture', platform.machine())})"),
        (said["cores"], cores),
    ]
    for name, key, unit in (("memory", "memory_gib", " GiB"), ("gpu", "gpu", ""), ("system", "system", "")):
        if machine.get(key):
            rows.append((said[name], f"{machine[key]}{unit}"))
    versions = machine.get("versions", {})
    rows.append(("torch", str(versions.get("torch", torch.__version__))))
    if not machine:
        rows.append(("", said["now"]))
    return [(name, value.strip()) for name, value in rows]


def time_line(trained: Mapping[str, Any], lang: str, report: float | None = None) -> str:
    """Where the time went: ``limit 3:00; reading and preparing 0:10; training 2:58 (...); evaluation 0:31``."""
    parts = {
        "limit": [trained["time_limit"]] if trained.get("time_limit") else [],
        "reading": [trained.get("reading", 0.0)],
        "trained": [trained.get(key, 0.0) for key in ("seconds", "validating", "saving")],
        "judging": [trained.get("judging", 0.0)],
        "report": [] if report is None else [report],
    }
    told = [SAID[lang][name].format(*map(clock_time, seconds)) for name, seconds in parts.items() if seconds]
    return ("；" if lang == "zh" else "; ").join(told)


def energy(subject: Subject) -> Section | None:
    """What training took, read or estimated; None where no training time is known."""
    said, trained = SAID[subject.lang], subject.trained
    seconds = float(trained.get("seconds", 0.0))
    if not seconds:
        return None
    hours, how = seconds / 3600, ""
    if trained.get("joules") and trained.get("metered"):
        share = seconds / trained["metered"]
        amount = trained["joules"] / 3600 * share
        how = said["read"]
        if abs(share - 1) > 0.05:
            how += " " + said["scaled"].format(metered=trained["metered"], seconds=seconds)
    else:
        cores = trained.get("machine", {}).get("cores", os.cpu_count() or 1)
        used = trained.get("cores_used", cores) * (trained.get("processes", 1) if "cores_used" in trained else 1)
        watts = subject.recipe.report.watts_per_core
        amount = used * hours * watts
        known = said["measured_cores" if "cores_used" in trained else "all_cores"]
        how = said["estimated"].format(used=used, how=known, hours=hours, watts=watts)
    left = said["left_out"]
    if trained.get("machine", {}).get("gpu"):
        left = f"{left} {said['gpu_out']}"
    digits = f"{amount:.3f}" if amount < 0.1 else f"{amount:.2f}" if amount < 10 else f"{amount:,.0f}"
    facts = [
        (said["energy"], said["watt_hours"].format(amount=digits)),
        (said["how"], how),
        (said["assumes"], left),
    ]
    return Section("energy", said["title"], facts=facts, after="machine")


def versions_of(subject: Subject) -> dict[str, Any]:
    """Packages and their versions, as they were when it was trained."""
    found: dict[str, Any] = subject.trained.get("machine", {}).get("versions", {})
    return found
