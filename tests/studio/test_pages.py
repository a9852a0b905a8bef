"""Each page in a real browser, end to end, with nothing to be reached but this machine."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rebus.studio import jobs
from tiny_studio import Running, Seen, look, run_studio

pytestmark = pytest.mark.slow


def until(true: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for something outside the browser."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.1)
    raise AssertionError("it never came")


def ask(seen: Seen, image: Path, question: str) -> None:
    page = seen.page
    page.set_input_files("#ask-image input[type=file]", image)
    page.wait_for_selector("#ask-image img")
    page.fill("#ask-question textarea", question)
    page.click("#ask-send")


def typed(page: Any, where: str, value: str) -> None:
    """Write what a list does not have, or has."""
    page.fill(f"{where} input", value)
    page.keyboard.press("Enter")


def test_ask_streams_and_shows_where_it_looked_for_each_word(seen: Seen, studio: Running) -> None:
    page = seen.open(studio.address)
    page.evaluate(
        "() => { window.said = []; new MutationObserver(() => { const e = document.querySelector('.said');"
        " if (e && window.said.at(-1) !== e.innerText) window.said.push(e.innerText); })"
        ".observe(document.body, {childList: true, subtree: true, characterData: true}); }"
    )
    ask(seen, studio.place / "squares" / "0.png", "What is in the image?")
    page.wait_for_selector(".said[data-done=true]")
    answer = page.locator(".said").inner_text()
    assert "square" in answer
    grown = [text.removesuffix("…").strip() for text in page.evaluate("window.said")]
    assert len(grown) > 3
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(grown[:-1]))
    words = page.locator(".word")
    assert words.count() == len(answer.split())
    words.nth(1).click()
    page.wait_for_selector("#ask-map")
    first = page.get_attribute("#ask-map", "src")
    assert page.locator(".word").nth(1).get_attribute("aria-pressed") == "true"
    page.locator(".word").nth(1).press("Tab")  # the keyboard goes on where it was
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_function("before => document.querySelector('#ask-map')?.src !== before", arg=first)
    assert page.get_attribute("#ask-map", "src").startswith("data:image/png;base64,")
    pressed = page.locator(".word[aria-pressed=true]")
    assert pressed.count() == 1
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    seen.shot("ask")
    assert seen.bad == []


def test_ask_in_chinese_and_the_switch(seen: Seen, studio: Running) -> None:
    page = seen.open(studio.address)
    ask(seen, studio.place / "squares" / "4.png", "图片里有什么？")
    page.wait_for_selector(".said[data-done=true]")
    assert "方块" in page.locator(".said").inner_text()
    page.get_by_label("中文").check()
    page.wait_for_selector("text=训练 >> visible=true")
    for name in ("提问", "浏览", "训练", "对比", "追踪"):
        assert page.get_by_role("tab", name=name, exact=True).count() == 1
    assert page.get_attribute("html", "lang") == "zh-CN"
    page.wait_for_selector("text=点按一个词")
    assert "方块" in page.locator(".said").inner_text()  # nothing is lost
    page.locator(".word").first.click()
    page.wait_for_selector("#ask-map")
    assert "为什么是" in page.locator("#ask-where").inner_text()
    seen.shot("ask-zh")
    page.get_by_label("English").check()
    page.wait_for_selector("text=Begin anew")


def test_a_model_that_classifies_tells_probabilities_and_their_maps(seen: Seen, studio: Running, sorts: Path) -> None:
    page = seen.open(studio.address)
    page.fill("#run input", "runs/sorts")
    page.keyboard.press("Enter")
    ask(seen, studio.place / "squares" / "0.png", "What is in the image?")
    page.wait_for_selector(".bars button")
    assert page.locator(".bars button").count() == 3
    assert page.locator(".said strong").inner_text() == page.locator(".bars .name").first.inner_text()
    page.locator(".bars button").first.click()
    page.wait_for_selector("#ask-where .seen")
    first = page.locator("#ask-where .seen").inner_html()
    page.locator(".bars button").nth(2).click()
    page.wait_for_function("before => document.querySelector('#ask-where .seen')?.innerHTML !== before", arg=first)
    seen.shot("ask-classify")


def test_enter_sends_an_example_that_was_pressed(seen: Seen, studio: Running) -> None:
    page = seen.open(studio.address)
    page.wait_for_selector("#ask-examples button")
    page.locator("#ask-examples button").first.click()
    page.wait_for_selector("#ask-image img")
    assert page.input_value("#ask-question textarea") == "What is in the image?"
    assert page.locator("#ask-image [aria-label*=webcam i], #ask-image button").count() >= 2
    page.locator("#ask-question textarea").press("Enter")
    page.wait_for_selector(".said[data-done=true]")
    assert "square" in page.locator(".said").inner_text()
    page.wait_for_selector("#ask-command pre")
    told = page.locator("#ask-command pre").inner_text()
    assert re.fullmatch(r"rebus ask runs/asks row-\d+\.png 'What is in the image\?'", told)
    assert seen.bad == []


def test_without_a_run_it_opens_on_train_and_speaks_chinese_throughout(
    chromium: Any, shots: Path, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"text {row},a{row % 2}\n" for row in range(20)))
    run = run_studio(None, tmp_path, lang="zh")
    window = look(chromium, shots)
    seen, page = next(window), None
    page = seen.page
    page.goto(f"{next(run).address}/studio/")
    page.wait_for_selector("#train-start")
    assert page.get_by_role("tab", name="训练", exact=True).get_attribute("aria-selected") == "true"
    page.click("#train-path input")
    page.get_by_role("option", name="t.csv", exact=True).click()  # picked, not typed; it is looked at by that
    page.wait_for_selector("#train-seen table")
    page.wait_for_selector("#train-command pre")
    assert page.locator("#train-command pre").inner_text() == "rebus train t.csv --time-limit 5"
    seen.turn_to("提问")
    assert "还没有模型" in page.locator("#ask-talk").inner_text()
    page.fill("#ask-question textarea", "什么？")
    page.locator("#ask-question textarea").press("Enter")
    page.wait_for_selector("#ask-talk .problem")
    told = [page.locator("#ask-talk .problem").inner_text()]
    seen.turn_to("浏览")
    typed(page, "#explore-path", "/etc/passwd")
    page.wait_for_selector("#explore-cards .problem")
    told.append(page.locator("#explore-cards .problem").inner_text())
    for text in told:
        assert not re.search(r"[A-Za-z]{3,}", re.sub(r"Run|--root|/\S+|“[^”]*”", "", text)), text
    seen.shot("no-run-zh")
    next(window, None)
    next(run, None)


def test_a_finished_training_offers_its_figures_its_report_and_a_talk(seen: Seen, studio: Running, sorts: Path) -> None:
    (sorts / "report.html").write_text("<!doctype html><title>the report</title><script>document.title += 's'</script>")
    (sorts / "README.md").write_text("what `rebus train` writes last")
    page = seen.open(studio.address)
    seen.turn_to("Train")
    typed(page, "#train-out", "runs/sorts")
    page.click("#train-watch")
    page.wait_for_selector("[data-state=finished]")
    assert "Accuracy" in page.locator("#train-status table").inner_text()
    assert page.locator("#train-status .curves").bounding_box()["width"] > 600
    assert page.locator("#train-status figure").first.bounding_box()["width"] < 600
    link = page.get_by_role("link", name="Open its report")
    report = page.context.new_page()
    answer = report.goto(studio.address + link.get_attribute("href"))
    assert report.title() == "the reports"
    assert "sandbox" in answer.headers["content-security-policy"]
    report.close()
    page.get_by_role("button", name="Ask it").click()
    page.wait_for_selector("#ask-send")
    assert page.input_value("#run input") == "runs/sorts"
    (sorts / "report.html").unlink()
    (sorts / "README.md").unlink()


def test_what_is_no_image_is_told_on_the_page(seen: Seen, studio: Running, tmp_path: Path) -> None:
    page = seen.open(studio.address)
    (tmp_path / "fake.png").write_text("<svg onload=alert(1)>")
    page.set_input_files("#ask-image input[type=file]", tmp_path / "fake.png")
    page.wait_for_selector("#ask-shown .problem")
    told = page.locator("#ask-shown .problem").inner_text()
    assert all(word in told for word in ("Where", "Expected", "Found", "What to do", "SVG"))
    assert "Traceback" not in page.content()
    page.fill("#ask-question textarea", "What is in the image?")
    page.click("#ask-send")
    page.wait_for_selector("#ask-talk .problem")
    seen.shot("ask-no-image")


def test_explore_filters_searches_and_finds_mistakes(seen: Seen, studio: Running) -> None:
    page = seen.open(studio.address)
    seen.turn_to("Explore")
    page.click("#explore-open")
    page.wait_for_selector(".cards img")
    rows = "#explore-cards [data-rows='{}']".format
    assert page.locator(rows(72)).count() == 1
    assert page.locator(".cards li").count() == 24
    page.click("#explore-after")
    page.wait_for_selector("text=Page 2 of 3")
    page.fill("#explore-text textarea", "red left")
    page.click("#explore-filter")
    page.wait_for_selector(rows(6))
    page.fill("#explore-text textarea", "")
    choose(page, "#explore-split", "test")
    page.wait_for_selector(rows(12))
    choose(page, "#explore-column", "label")
    page.wait_for_timeout(300)
    choose(page, "#explore-value", "blue")
    page.wait_for_selector(rows(4))
    page.locator(".cards button").first.click()
    page.wait_for_selector(".detail img")
    assert "a blue square" in page.locator(".detail").inner_text() or "蓝色" in page.locator(".detail").inner_text()
    seen.shot("explore")
    choose(page, "#explore-value", "red")
    page.wait_for_selector(rows(4))
    page.click("#explore-worst")
    page.wait_for_selector("text=rows judged")
    page.wait_for_selector(".cards .right, .cards .wrong")
    page.get_by_text("Search by an image").click()
    page.set_input_files("#explore-sample input[type=file]", studio.place / "squares" / "30.png")
    page.wait_for_selector("text=most alike first")
    seen.shot("explore-alike")
    assert seen.bad == []


def choose(page: Any, where: str, value: str) -> None:
    """Choose a value of a drop-down."""
    page.click(f"{where} input")
    page.get_by_role("option", name=value, exact=True).click()


def test_a_bad_table_and_a_path_elsewhere_are_told(seen: Seen, studio: Running) -> None:
    page = seen.open(studio.address)
    seen.turn_to("Explore")
    typed(page, "#explore-path", "/etc/passwd")
    page.click("#explore-open")
    page.wait_for_selector("#explore-cards .problem")
    assert "--root" in page.locator("#explore-cards .problem").inner_text()
    seen.turn_to("Train")
    typed(page, "#train-path", "bad.csv")
    page.click("#train-look")
    page.wait_for_selector("#train-seen .problem")
    assert "nowhere.png" in page.locator("#train-seen").inner_text()
    typed(page, "#train-path", "none.csv")
    page.click("#train-start")
    page.wait_for_selector("#train-told .problem")
    assert "no such file" in page.locator("#train-told").inner_text()


@pytest.mark.timeout(900)  # it begins three processes, each of which imports torch
def test_train_starts_grows_stops_resumes_and_outlives_the_page(seen: Seen, studio: Running) -> None:
    page, folder = seen.open(studio.address), studio.place / "runs" / "made"
    seen.turn_to("Train")
    typed(page, "#train-path", "squares/table.jsonl")
    choose(page, "#train-tasks", "classify")
    page.keyboard.press("Escape")
    page.click("#train-look")
    page.wait_for_selector("#train-seen table")
    assert "Ready to train" in page.locator("#train-seen").inner_text()
    typed(page, "#train-out", "runs/made")
    settings = ["train.steps=4000", "train.save_every=500", "train.validate_every=50", "train.batch_size=8"]
    settings += ["image.size=32", "text.vocab_size=340", "model.image.width=16", "model.image.depth=1"]
    settings += ["model.image.heads=2", "model.image.patch=8", "model.text.width=16", "model.text.depth=1"]
    settings += ["model.text.heads=2", "model.fusion.heads=2", "tasks.0.columns.label=label"]
    page.fill("#train-more textarea", "\n".join(settings))
    page.click("#train-start")
    page.wait_for_selector("[data-state=running]")
    page.wait_for_selector("#train-status svg[data-points]", timeout=300_000)
    before = int(page.locator("#train-status svg").first.get_attribute("data-points"))
    page.wait_for_function(
        "n => +document.querySelector('#train-status svg')?.dataset.points > n + 3 &&"
        " document.querySelectorAll('#train-status svg').length > 1", arg=before
    )  # fmt: skip
    page.wait_for_selector(".samples li")
    seen.shot("train")
    with pytest.raises(Exception, match="another Studio"):
        jobs.resume(folder)  # a second Studio on the same Run
    page.click("#train-start")
    page.wait_for_selector("#train-told .problem")
    assert "Resume" in page.locator("#train-told").inner_text()
    page.reload()  # closing the page loses nothing: it is found again
    page.wait_for_selector("#ask-send")
    seen.turn_to("Train")
    page.wait_for_selector("[data-state=running]")
    assert page.input_value("#train-out input") == "runs/made"
    page.click("#train-stop")
    page.wait_for_selector("[data-state=stopped]")
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert not (folder / "config.json").exists()
    assert list((folder / "checkpoints").glob("step-*"))
    page.click("#train-resume")
    page.wait_for_selector("[data-state=running]")
    until(lambda: jobs.look(folder).state == "running" and max_step(folder) > max(steps), 300)
    page.click("#train-stop")
    page.wait_for_selector("[data-state=stopped]")
    assert "Traceback" not in (folder / jobs.LOG).read_text()
    assert seen.bad == []


def max_step(folder: Path) -> int:
    return max(json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines())


def test_compare_shows_runs_side_by_side(seen: Seen, studio: Running) -> None:
    (studio.place / "runs" / "found").mkdir(exist_ok=True)
    arm = {"single": True, "figure": [0.5, 0.4, 0.6], "gains": {}, "parameters": 1000, "seconds": 2.0}
    gain = {"text": {"value": 0.25, "low": 0.1, "high": 0.4, "p": 0.01, "holm": 0.02}}
    arms = [{"name": "text", **arm}, {"name": "unified", **arm, "figure": [0.75, 0.7, 0.8], "gains": gain}]
    told = {"metric": "accuracy", "arms": arms, "best_single": "text", "verdict": "Images help."}
    (studio.place / "runs" / "found" / "compare.json").write_text(json.dumps(told))
    Image.new("RGB", (80, 40), "white").save(studio.place / "runs" / "found" / "compare.png")
    page = seen.open(studio.address)
    seen.turn_to("Compare")
    typed(page, "#compare-folder", "runs")
    page.click("#compare-look")
    page.wait_for_selector("#compare-shown table")
    told_text = page.locator("#compare-shown").inner_text()
    assert all(word in told_text for word in ("runs/asks", "runs/sorts", "Exact match", "Accuracy", "baseline"))
    assert all(word in told_text for word in ("Images help.", "75.0%", "70.0 – 80.0%", "+0.250 (p 0.02)"))
    assert page.locator("#compare-shown img").count() == 1
    seen.shot("compare")
    shutil.rmtree(studio.place / "runs" / "found")


def test_flow_follows_an_example(seen: Seen, studio: Running) -> None:
    page = seen.open(studio.address)
    seen.turn_to("Flow")
    page.set_input_files("#flow-image input[type=file]", studio.place / "squares" / "1.png")
    page.fill("#flow-text textarea", "What is in the image?")
    page.wait_for_timeout(300)
    page.click("#flow-go")
    page.wait_for_selector(".flow-frame")
    assert page.locator(".flow-frame img").count() >= 1
    english = page.locator(".flow-frame").inner_text()
    seen.shot("flow")
    page.get_by_label("中文").check()
    page.wait_for_function("before => document.querySelector('.flow-frame')?.innerText !== before", arg=english)
    assert seen.bad == []


def test_it_can_be_read_on_a_phone(chromium: Any, shots: Path, studio: Running) -> None:
    window = look(chromium, shots, width=390, has_touch=True, is_mobile=True)
    seen = next(window)
    page = seen.open(studio.address)
    ask(seen, studio.place / "squares" / "2.png", "What is in the image?")
    page.wait_for_selector(".said[data-done=true]")
    page.locator(".word").nth(1).click()
    page.wait_for_selector("#ask-map")
    seen.shot("phone-ask")
    for name in ("Explore", "Train", "Compare", "Flow"):
        seen.turn_to(name)  # all five are in sight, none in a menu
        if name == "Explore":
            page.click("#explore-open")
            page.wait_for_selector(".cards img")
        if name == "Compare":
            page.click("#compare-look")
            page.wait_for_selector("#compare-shown table")
        seen.shot(f"phone-{name.lower()}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390, (name, wide)
    next(window, None)


def test_everything_can_be_reached_with_the_keyboard_and_has_a_name(seen: Seen, studio: Running) -> None:
    page = seen.open(studio.address)
    for name in ("Ask", "Explore", "Train", "Compare", "Flow"):
        seen.turn_to(name)
        page.wait_for_timeout(200)
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('button, input, textarea, select, [tabindex="0"]')]
            .filter(e => e.checkVisibility() && e.tabIndex >= 0)
            .filter(e => !(e.getAttribute('aria-label') || e.innerText?.trim() || e.labels?.length || e.title))
            .map(e => e.outerHTML.slice(0, 200))"""
        )
        assert nameless == [], name
    page.locator("#lang input").first.focus()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.closest('[id^=flow-], [id^=page-]')?.id || ''"))
    assert {"flow-text", "flow-go"} <= reached
