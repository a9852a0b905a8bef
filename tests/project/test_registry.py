"""Names to classes: ours by decorator, other people's by entry point."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rebus.cli.doctor import doctor
from rebus.doctor import examine, plugin_states
from rebus.errors import RecipeError
from rebus.models.towers import TOWERS
from rebus.registry import PluginWarning, Registry
from rebus.tasks import TASKS


def test_a_registered_class_is_found_by_its_name() -> None:
    towers: Registry[type] = Registry("tower")

    @towers.register("vit")
    class Vit:
        pass

    assert towers.get("vit") is Vit
    assert "vit" in towers.names()


def test_a_misspelt_name_is_refused_with_the_nearest() -> None:
    towers: Registry[type] = Registry("tower")
    towers.register("convnet")(int)
    with pytest.raises(RecipeError, match="did you mean 'convnet'"):
        towers.get("convnett")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution, as pip would leave it, that offers one tower."""
    info = tmp_path / "other_rebus-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-rebus\nVersion: 1.0\n")
    points = "[rebus.towers]\nspiral = other_rebus_plugin:Spiral\nvit = other_rebus_plugin:Vit\n"
    (info / "entry_points.txt").write_text(points)
    (tmp_path / "other_rebus_plugin.py").write_text("class Spiral: pass\nclass Vit: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "other_rebus_plugin", raising=False)


@pytest.mark.usefixtures("plugin")
def test_a_plugin_is_found_by_its_entry_point() -> None:
    towers: Registry[type] = Registry("tower")
    assert towers.get("spiral").__name__ == "Spiral"
    assert "spiral" in towers.names()


@pytest.mark.usefixtures("plugin")
def test_a_plugin_cannot_take_the_place_of_ours() -> None:
    towers: Registry[type] = Registry("tower")
    towers.register("vit")(int)
    towers.names()
    assert towers.get("vit") is int


@pytest.mark.usefixtures("plugin")
def test_another_sort_does_not_see_it() -> None:
    fusions: Registry[type] = Registry("fusion")
    with pytest.raises(RecipeError):
        fusions.get("spiral")


def test_a_broken_plugin_is_named_and_a_typo_stays_a_typo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "bad_rebus-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-rebus\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[rebus.towers]\ntwisted = bad_rebus_plugin:Twisted\n")
    (tmp_path / "bad_rebus_plugin.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    towers: Registry[type] = Registry("tower")
    towers.register("convnet")(int)
    with (
        pytest.warns(PluginWarning, match=r"the tower 'twisted' is left out: bad-rebus 2\.0"),
        pytest.raises(RecipeError, match="did you mean 'convnet'"),
    ):
        towers.get("convnett")
    assert {"convnet", "twisted"} & set(towers.names()) == {"convnet"}  # other packages may add towers
    with pytest.raises(RecipeError, match=r"bad-rebus 2\.0.*a_package_that_is_not_there"):
        towers.get("twisted")
    assert "bad-rebus 2.0" in str(examine()["plug-ins"])


@pytest.fixture
def broken_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of which one task cannot be imported, one is no task and one tower has its module missing."""
    info = tmp_path / "worse_rebus-3.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: worse-rebus\nVersion: 3.0\n")
    tasks = "[rebus.tasks]\nabsent = worse_rebus_plugin:Absent\nhalf = worse_rebus_plugin:Half\n"
    (info / "entry_points.txt").write_text(f"{tasks}[rebus.towers]\ngone = worse_rebus_gone:Gone\n")
    (tmp_path / "worse_rebus_plugin.py").write_text(
        "from rebus.tasks import Task\nclass Half(Task):\n    name = 'half'\n    roles = {}\n    watch = 'accuracy'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for registry in (TASKS, TOWERS):
        for name in ("_items", "_broken"):
            monkeypatch.setattr(registry, name, dict(getattr(registry, name)))
        monkeypatch.setattr(registry, "_loaded_plugins", False)


@pytest.mark.usefixtures("broken_plugins")
def test_broken_plugins_break_no_list_and_the_doctor_names_them() -> None:
    states = plugin_states()
    assert states["rebus.tasks"]["absent"].startswith("broken, left out: worse-rebus 3.0: AttributeError")
    assert "worse_rebus_plugin:Half lacks collate, head" in states["rebus.tasks"]["half"]
    assert "worse_rebus_gone" in states["rebus.towers"]["gone"]
    assert "regress" in states["rebus.tasks"]["rebus"].split(", ")
    assert not {"absent", "half"} & set(TASKS.names())
    assert all(TASKS.get(name).roles for name in TASKS.names())


@pytest.mark.usefixtures("broken_plugins")
def test_a_broken_plugin_is_warned_of_once() -> None:
    with pytest.warns(PluginWarning) as warned:
        assert TASKS.names() == TASKS.names()
    assert [str(one.message).split("'")[1] for one in warned] == ["absent", "half"]


def test_the_doctor_lists_the_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    doctor(plugins=True)
    printed = capsys.readouterr().out
    assert all(f"rebus.{name}" in printed for name in ("tasks", "towers", "fusions", "methods"))
