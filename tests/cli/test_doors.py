"""Each verb parses, calls one function of ``rebus.api`` with the signature it really has, and prints."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, create_autospec

import pytest
from typer.testing import CliRunner

from rebus import api
from rebus.cli.app import app
from rebus.errors import DataError

RUN = "some-run"


def ended(folder: str, whole: bool = True) -> SimpleNamespace:
    weights = Path(__file__) if whole else Path("nowhere")
    return SimpleNamespace(folder=Path(folder), weights_path=weights, report_path=Path(folder, "report.html"))


def rebus(*words: str, typed: str | None = None) -> Any:
    return CliRunner().invoke(app, list(words), input=typed)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The functions of ``rebus.api``, recorded and refused any argument that they do not have."""
    spies = SimpleNamespace()
    for name in (
        "train",
        "resume",
        "dry_run",
        "load",
        "predict",
        "evaluate",
        "check",
        "run_demo",
        "write_demo",
        "write_report",
    ):
        spy = create_autospec(getattr(api, name))
        monkeypatch.setattr(api, name, spy)
        setattr(spies, name, spy)
    spies.train.return_value = ended("runs/pets")
    spies.resume.return_value = ended(RUN)
    return spies


def test_train_writes_its_shorthands_out_as_settings(door: SimpleNamespace) -> None:
    words = "train pets.csv --task caption --task classify --seed 3 --time-limit 2 --fusion joint --image vit"
    done = rebus(*words.split(), "--kind", "age=number", "--split-column", "fold", "--set", "train.lr=1e-3", "--quiet")
    assert done.exit_code == 0, done.output
    assert done.stdout == "runs/pets\n"
    called = door.train.call_args
    assert called.args == (Path("pets.csv"),)
    assert called.kwargs["task"] == ["caption", "classify"]
    assert called.kwargs["settings"] == [
        "seed=3",
        "train.time_limit=2.0",
        'model.fusion.kind="joint"',
        'model.image.kind="vit"',
        'data.split.column="fold"',
        'data.kinds.age="number"',
        "train.lr=1e-3",
    ]


def test_what_the_shorthands_write_the_recipe_reads(door: SimpleNamespace) -> None:
    from rebus.recipe import Recipe, override

    words = "train x.csv --seed 3 --text recurrent --group-column yes --kind 1=text --tune lora"
    rebus(*words.split())
    given = door.train.call_args.kwargs
    recipe = override(Recipe(), given["settings"])
    assert (recipe.seed, given["text"], recipe.data.split.group) == (3, "recurrent", "yes")
    assert recipe.train.tune == "lora"
    assert recipe.data.kinds == {"1": "text"}


def test_set_wins_over_a_shorthand(door: SimpleNamespace) -> None:
    from rebus.recipe import Recipe, override

    rebus("train", "x.csv", "--seed", "3", "--set", "seed=4")
    assert override(Recipe(), door.train.call_args.kwargs["settings"]).seed == 4


def test_resume_takes_nothing_beside_it(door: SimpleNamespace) -> None:
    assert rebus("train", "--resume", RUN).exit_code == 0
    assert door.resume.call_args.args == (Path(RUN),)
    refused = rebus("train", "--resume", RUN, "--seed", "3")
    assert refused.exit_code == 2
    assert "its own recipe" in refused.stderr
    assert not door.train.called


def test_a_run_that_was_stopped_says_how_to_go_on(door: SimpleNamespace) -> None:
    door.train.return_value = ended("runs/pets", whole=False)
    done = rebus("train", "pets.csv")
    assert done.exit_code == 130
    assert "rebus train --resume runs/pets" in done.stderr
    assert done.stdout == ""


def test_only_the_first_process_prints(door: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert rebus("train", "pets.csv").stdout == ""


def test_train_without_a_table_says_so(door: SimpleNamespace) -> None:
    done = rebus("train")
    assert done.exit_code == 2
    assert "rebus train DATA" in done.stderr


def test_dry_run_prints_recipe_and_size(door: SimpleNamespace) -> None:
    door.dry_run.return_value = SimpleNamespace(
        recipe_text="seed: 0", parameters=1234567, memory_mb=321.0, seconds=90.0, steps=40, epochs=2.0
    )
    done = rebus("train", "x.csv", "--dry-run")
    assert done.stdout.startswith("seed: 0")
    assert all(word in done.stdout for word in ("1,234,567", "321 MiB", "1.5 minutes"))
    assert not door.train.called


def test_predict(door: SimpleNamespace) -> None:
    door.predict.return_value = SimpleNamespace(rows=5, skipped=1, seconds=2.0, cut="", absent=[])
    done = rebus("predict", RUN, "x.csv", "--out", "y.csv")
    assert door.predict.call_args.args == (Path(RUN), Path("x.csv"), Path("y.csv"))
    assert done.stdout == "5 rows in 2.0 s, 1 rows left out: y.csv\n"


def test_evaluate_writes_json(door: SimpleNamespace, tmp_path: Path) -> None:
    evaluation = MagicMock()
    evaluation.as_dict.return_value = {"classify": {"accuracy": 0.5}}
    door.evaluate.return_value = evaluation
    out = tmp_path / "figures.json"
    done = rebus("evaluate", RUN, "x.csv", "--by", "artist", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text()) == {"classify": {"accuracy": 0.5}}
    assert evaluation.render.called
    assert door.evaluate.call_args.kwargs["by"] == "artist"


def test_ask_looks_for_its_image_before_it_loads_the_model(door: SimpleNamespace, tmp_path: Path) -> None:
    for words in (["--image", f"{tmp_path}/no.bin", "what?"], [f"{tmp_path}/no.PNG", "what?"]):
        done = rebus("ask", RUN, *words)
        assert done.exit_code == 2
        assert f"an image file in {tmp_path}; found no such file" in done.stderr
    assert not door.load.called


def test_ask_prints_one_line_an_answer(door: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door.load.return_value.sees = True
    door.load.return_value.ask.side_effect = ["a cat", "两只"]
    (tmp_path / "cat.png").touch()
    monkeypatch.chdir(tmp_path)
    done = rebus("ask", RUN, "cat.png", "what is it?", "有几只?")
    assert done.stdout == "a cat\n两只\n"
    assert [call.args[0] for call in door.load.return_value.ask.call_args_list] == [Path("cat.png")] * 2


@pytest.mark.parametrize(
    ("sees", "words", "asked"),
    [
        (True, ["{image}", "what?"], [("{image}", "what?")]),
        (True, ["{image}"], [("{image}", "")]),
        (True, ["what colour is snow?"], [(None, "what colour is snow?")]),
        (
            True,
            ["what is it?", "and this?"],
            [("what is it?", "and this?")],
        ),  # the model refuses it
        (False, ["what?", "and this?"], [(None, "what?"), (None, "and this?")]),
        (False, ["{image}", "what?"], [(None, "what?")]),
    ],
)
def test_ask_finds_the_image_where_the_model_sees_any(
    door: SimpleNamespace, tmp_path: Path, sees: bool, words: list[str], asked: list[tuple[str | None, str]]
) -> None:
    image = tmp_path / "a cat.png"
    image.write_bytes(b"x")
    door.load.return_value.sees = sees
    door.load.return_value.ask.return_value = "yes"
    assert rebus("ask", RUN, *(word.format(image=image) for word in words)).exit_code == 0
    expected = [(None if one is None else Path(one.format(image=image)), question) for one, question in asked]
    assert [call.args for call in door.load.return_value.ask.call_args_list] == expected


def test_generate_hands_everything_on(door: SimpleNamespace, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text("{}", encoding="utf-8")
    door.load.return_value.generate.return_value = ["one", "two"]
    words = "--max-new-tokens 9 --temperature 0.5 --top-k 3 --top-p 0.9 --min-p 0.1 --repetition-penalty 1.1 --n 2"
    words += " --seed 4 --beams 1 --stop A --stop B --precision bf16"
    done = rebus("generate", RUN, "Once", *words.split(), "--json-schema", str(schema))
    assert done.stdout == "one\n---\ntwo\n"
    assert door.load.call_args.kwargs == {"precision": "bf16"}
    called = door.load.return_value.generate.call_args
    assert called.args == ("Once",)
    assert called.kwargs == {
        "max_new_tokens": 9,
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "stop": ["A", "B"],
        "n": 2,
        "seed": 4,
        "beams": 1,
        "json_schema": "{}",
        "regex": None,
        "stream": False,
    }


def test_data_check_exits_2_when_training_would_refuse(door: SimpleNamespace, tmp_path: Path) -> None:
    report = MagicMock(exit_code=0)
    report.as_dict.return_value = {"rows": 3}
    door.check.return_value = report
    assert rebus("data", "check", "x.csv", "--json", str(tmp_path / "c.json")).exit_code == 0
    assert json.loads((tmp_path / "c.json").read_text()) == {"rows": 3}
    assert rebus("data", "check", "x.csv", "--json").stdout == '{\n  "rows": 3\n}\n'
    assert rebus("data", "check", "--json", "--task", "lm", "x.csv").stdout == '{\n  "rows": 3\n}\n'
    report.exit_code = 2
    assert rebus("data", "check", "x.csv").exit_code == 2


def test_demo_trains_or_writes(door: SimpleNamespace) -> None:
    door.write_demo.return_value = Path("scenes")
    assert rebus("demo", "--write", "scenes").exit_code == 0
    assert not door.run_demo.called
    for flag in ("--time-limit", "--minutes"):
        assert rebus("demo", "--out", "d", flag, "1", "--lang", "zh").exit_code == 0
        assert door.run_demo.call_args.kwargs == {"time_limit": 1.0, "lang": "zh"}


def test_report_prints_where(door: SimpleNamespace) -> None:
    door.write_report.return_value = Path(RUN, "report.html")
    assert rebus("report", RUN, "--lang", "zh").stdout == "some-run/report.html\n"


def test_a_users_mistake_is_one_red_paragraph_and_status_2(door: SimpleNamespace) -> None:
    door.train.side_effect = DataError("pets.csv, row [3]", "an image", "none", "add it")
    done = rebus("train", "pets.csv")
    assert done.exit_code == 2
    assert done.stderr == "Error: pets.csv, row [3]: expected an image; found none. What to do: add it\n"
    assert done.stdout == ""


def test_an_interruption_is_status_130(door: SimpleNamespace) -> None:
    door.train.side_effect = KeyboardInterrupt
    done = rebus("train", "pets.csv")
    assert (done.exit_code, done.stderr) == (130, "Stopped.\n")


def test_a_defect_keeps_its_traceback_and_asks_for_the_doctor(
    door: SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    door.train.side_effect = ZeroDivisionError("ours")
    done = rebus("train", "pets.csv")
    assert done.exit_code == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: ours" in done.stderr
    assert "rebus doctor" in done.stderr


def test_chat_shows_images_keeps_turns_and_survives_slips(door: SimpleNamespace, tmp_path: Path) -> None:
    image = tmp_path / "a cat.png"
    image.write_bytes(b"x")
    heard: list[list[dict[str, Any]]] = []

    def answer(messages: list[dict[str, Any]], *, stream: bool) -> Any:
        assert stream
        heard.append([dict(message) for message in messages])
        if "boom" in str(messages[-1]):
            raise DataError("the question", "a short one", "a long one", "shorten it")
        return iter(["answer", f" {len(heard)}"])

    door.load.return_value.chat.side_effect = answer
    lines = ["/image nowhere.png", f"/image {image}", "what is it?", "boom", "and now?", "/reset", "hello", "/help"]
    done = rebus("chat", RUN, typed="\n".join([*lines, "/quit", "never read"]))
    assert done.exit_code == 0, done.output
    assert "no such file" in done.stderr
    assert "shorten it" in done.stderr
    first, _, third, after_reset = heard
    assert first == [
        {
            "role": "user",
            "content": [{"type": "image", "path": str(image)}, {"type": "text", "text": "what is it?"}],
        }
    ]
    assert [message["role"] for message in third] == ["user", "assistant", "user"]  # the failed turn is forgotten
    assert [message["content"][-1]["text"] for message in after_reset] == ["hello"]
    assert "answer 4" in done.stdout


def test_chat_ends_at_the_end_of_input(door: SimpleNamespace) -> None:
    door.load.return_value.chat.return_value = iter(["hi"])
    assert rebus("chat", RUN, typed="hello\n").exit_code == 0


def test_chat_refuses_a_missing_image_at_the_door(door: SimpleNamespace) -> None:
    done = rebus("chat", RUN, "--image", "nowhere.png")
    assert done.exit_code == 2
    assert not door.load.called
