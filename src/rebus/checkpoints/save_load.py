"""Build, save and load a Run's model and tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rebus import atomic, recipe
from rebus.checkpoints.adapters import merged_state, save_adapters
from rebus.checkpoints.fitting import check_layers
from rebus.checkpoints.hf_save import HEADS_FILE, KEY, rebus_entry, run_state, saved_model
from rebus.checkpoints.inline_images import inside_of
from rebus.checkpoints.run_folder import Run
from rebus.errors import RebusError, RecipeError, RunError, enough_memory
from rebus.formats.family import CheckpointSpec, family_for
from rebus.formats.names import State, renamer
from rebus.formats.weights import check_state, save_weights, write_tensors
from rebus.models.heads import HEADS, HeadSpec
from rebus.models.modalities import modalities_of
from rebus.models.towers import TOWERS
from rebus.models.vlm import VisionLanguageModel
from rebus.recipe import TaskSettings
from rebus.tasks import TASKS, Task, TextProcessor
from rebus.text.frames import with_end, with_start
from rebus.text.readers import READERS, TextReader, read_options
from rebus.text.tokenizer import Tokenizer

MODALITIES_FILE = "modalities.json"


def make_processor(settings: recipe.Recipe, texts: list[str], words: Iterable[str] = ()) -> TextProcessor:
    """The tokenizer, trained on the training rows' text or read from a file, and the text tower's own if it has one."""
    if settings.text.tokenizer is not None:
        tokenizer = Tokenizer.load(settings.text.tokenizer, extend=True)
    else:
        specials = [name for entry in settings.tasks for name in TASKS.get(entry.name).specials]
        nfkc = settings.text.nfkc
        if nfkc is None:
            nfkc = not any(TASKS.get(entry.name).writes for entry in settings.tasks)
        tower = settings.model.text
        family = family_for(CheckpointSpec(tower)) if tower.kind == "decoder" else None
        cut: dict[str, Any] = {"nfkc": nfkc}
        if family is not None and family.pattern is not None:  # transformers cuts text for it in no other way
            cut = {"pattern": family.pattern, "nfkc": False, "nfc": True}
        tokenizer = Tokenizer.train(texts, settings.text.vocab_size, words, specials=specials, **cut)
        if needs_end(settings.model.text):
            tokenizer = with_end(tokenizer)
    kind = reader_of(settings)
    if kind is None:
        return processor_of(settings, tokenizer, None)
    options = read_options(kind.options, settings.text.options, "text.options")
    return processor_of(settings, tokenizer, kind.fit(texts, settings.text.segment, options))


def reader_of(settings: recipe.Recipe) -> type[TextReader] | None:
    """The text tower's own reader; None where it reads the tokenizer's pieces.

    Raises:
        RecipeError: a reader or its settings are given, and the tower can have none.
    """
    text, kind = settings.text, settings.model.text.kind
    tower = TOWERS.get(kind) if kind not in ("auto", "none") else None
    name = text.reader or (tower.reader if tower is not None else None)
    given = {"text.reader": text.reader, "text.options": text.options, "text.file": text.file}
    for where, value in given.items():
        if value and (name is None or tower is None or not tower.takes_reader):
            do = "choose a text tower that one may stand before, such as recurrent, or leave it out"
            raise RecipeError(where, "a text tower with a reader of its own", f"'{kind}'", do)
    return None if name is None else READERS.get(name)


def start_reader(
    model: VisionLanguageModel,
    settings: recipe.Recipe,
    processor: TextProcessor,
    texts: Callable[[], Sequence[str]],
    log: Callable[[str], None],
) -> None:
    """Give a fresh text tower what its reader starts it from. Raises as ``TextReader.start``."""
    reader = processor.reader
    if reader is None or model.text is None:
        return
    options = read_options(reader.options, settings.text.options, "text.options")
    reader.start(model.text, options, settings.text.file, texts, settings.seed, log)


def processor_of(
    settings: recipe.Recipe,
    tokenizer: Tokenizer,
    reader: TextReader | None,
    states: Mapping[str, dict[str, Any]] | None = None,
) -> TextProcessor:
    """Tokenizers and modalities with what the recipe says of them; ``states``: what modalities were fitted to."""
    separate = settings.model.text.kind not in ("decoder", "none")
    inside = inside_of(settings, tokenizer)
    return TextProcessor(
        inside.tokenizer,
        reader,
        settings.text.max_length,
        text_tower=separate,
        image=inside.ids,
        image_id=inside.image_id,
        modalities=modalities_of(settings, states),
    )


def build_model(settings: recipe.Recipe, tasks: dict[str, Task], processor: TextProcessor) -> VisionLanguageModel:
    """A model with fresh weights, drawn from the recipe's seed.

    Its embeddings have a row for each id of the tokenizer, or more where ``model.text.rows`` says so.
    """
    torch.manual_seed(settings.seed)
    others = [name for name, columns in settings.data.inputs.items() if columns]
    heads = {name: _reading(task.head(processor), others) for name, task in tasks.items()}
    reader = processor.reader
    words = list(reader.words) if reader is not None else None
    # One pass over an image may carry several questions, so a row is longer than one text.
    return VisionLanguageModel(
        settings.model,
        settings.image,
        heads,
        vocab_size=max(settings.model.text.rows or 0, processor.tokenizer.vocab_size),
        max_length=settings.text.max_length,
        words=words,
        image_id=processor.image_id,
        contexts={name: modality.context() for name, modality in processor.modalities.items()},
    )


def _reading(spec: HeadSpec, modalities: Iterable[str]) -> HeadSpec:
    """A head that reads modalities beside those that its task names, where it reads what is joined at all."""
    joins = HEADS.get(spec.kind).consumes in ("fused", "decoder")
    return replace(spec, reads=tuple(dict.fromkeys((*spec.reads, *modalities)))) if joins else spec


def save_model(
    folder: Path, model: VisionLanguageModel, settings: recipe.Recipe, tasks: dict[str, Task], processor: TextProcessor
) -> None:
    """Write tokenizer, weights, adapters and, last, config.json, which says that the rest is there.

    A model that a checkpoint family has a place for is written in that family's layout (``rebus.checkpoints.hf_save``),
    any other in Rebus' own, with preprocessor_config.json. Adapters are added to the weights, and stand beside them.
    """
    if tasks and all(task.continues for task in tasks.values()):
        processor = replace(processor, tokenizer=with_start(processor.tokenizer))
    save_processor(folder, processor)
    saved = saved_model(model, settings, tasks, processor)
    if saved is not None and saved.is_text_alone and not saved.keeps_cutting(processor.tokenizer):
        saved = None  # transformers would cut texts in another way and nobody would be told
    state = {name: _plain(tensor) for name, tensor in merged_state(model).items()}
    own: dict[str, Any] = {
        "tasks": [
            {"settings": task.settings.model_dump(mode="json"), "state": task.state()} for task in tasks.values()
        ],
        "model": settings.model.model_dump(mode="json"),
    }
    heads: dict[str, Tensor] = {}
    if saved is None or saved.spec.text is None:
        atomic.write_json(folder / "preprocessor_config.json", _preprocessor(settings.image))
        rows = model.decoder.vocab_size if model.decoder is not None else processor.tokenizer.vocab_size
        first = {"architectures": ["VisionLanguageModel"], "model_type": "rebus"}
        config = {**first, "torch_dtype": "float32", "vocab_size": rows, **own}
        save_adapters(folder, model, settings)
    else:
        saved.write_beside(folder, settings, processor.tokenizer)
        state, heads = saved.to_hf(state)
        if saved.head is not None:
            own["head"] = saved.head.task.name
        config = saved.config(processor.tokenizer) | {KEY: own}
        modules = renamer(saved.family.module_names)
        alone = {"decoder": "CAUSAL_LM", "encoder": "FEATURE_EXTRACTION"}[saved.spec.text.kind]
        peft_task = alone if saved.is_text_alone else None
        bare = replace(saved.spec, architecture=None)  # what PEFT loads for features has no head beside it
        renamed = saved.spec if peft_task != "FEATURE_EXTRACTION" else bare

        def rename(part: Mapping[str, Tensor]) -> State:
            return modules(saved.family.to_hf(part, renamed))

        save_adapters(folder, model, settings, rename=rename, task=peft_task)
    save_weights(folder, state)
    if heads:
        write_tensors(folder / HEADS_FILE, heads)
    else:
        (folder / HEADS_FILE).unlink(missing_ok=True)
    atomic.write_json(folder / "config.json", config)


def needs_end(text: recipe.Tower) -> bool:
    """Whether a text tower is pooled where a text ends, so that its tokenizer should end texts."""
    return text.kind == "encoder" and text.pool == "last" and text.filler is None


def _plain(tensor: Tensor) -> Tensor:
    """As it is saved: floats in full, what counts as it is."""
    values = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
    return values.cpu().contiguous()


def _preprocessor(image: recipe.Image) -> dict[str, Any]:
    return {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(image.mean),
        "image_std": list(image.std),
        "rescale_factor": 1 / 255,
        "size": {"height": image.size, "width": image.size},
        "fit": image.fit,
        "filter": image.resample,
        "edge": image.edge,
    }


def save_processor(folder: Path, processor: TextProcessor) -> None:
    """Write the tokenizers, and what modalities were fitted to."""
    processor.tokenizer.save(folder)
    states = {name: state for name, modality in processor.modalities.items() if (state := modality.state())}
    if states:
        atomic.write_json(folder / MODALITIES_FILE, states)
    if processor.reader is not None:
        processor.reader.save(folder)


def saved_processor(run: Run) -> TextProcessor:
    """The tokenizers of a Run, begun or finished. Raises RunError when one is missing or damaged."""
    kind = reader_of(run.recipe)
    reader = None if kind is None else kind.load(run.folder)
    states = run.read_json(MODALITIES_FILE) if (run.folder / MODALITIES_FILE).exists() else {}
    try:
        return processor_of(run.recipe, Tokenizer.load(run.folder), reader, states)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        message = f"{error!r}"[:200]
        raise RunError(run.folder / MODALITIES_FILE, "what inputs were fitted to", message, "restore it") from error


def load_model(
    run: Run, dtype: torch.dtype | None = None
) -> tuple[VisionLanguageModel, recipe.Recipe, dict[str, Task], TextProcessor]:
    """What ``save_model`` wrote.

    Args:
        run: finished.
        dtype: of the weights in memory; None: float32.

    Raises:
        RunError: a file is missing or damaged. WeightsError: the weights do not fit the recipe.
    """
    settings = run.recipe
    config = run.read_json("config.json")
    tasks = restore_tasks(config, run.config_path)
    processor = saved_processor(run)
    model = filled_model(settings, tasks, processor, lambda: run_state(run.folder, config, settings.model.text), dtype)
    return model, settings, tasks, processor


def filled_model(
    settings: recipe.Recipe,
    tasks: dict[str, Task],
    processor: TextProcessor,
    weights: Callable[[], dict[str, Tensor]],
    dtype: torch.dtype | None = None,
) -> VisionLanguageModel:
    """A model with given weights, ready to answer.

    Args:
        settings: the resolved recipe.
        tasks: what it does.
        processor: text to ids.
        weights: gives its tensors by name.
        dtype: of the weights in memory; None: float32.

    Raises:
        WeightsError: they are not the model's.
    """
    with enough_memory("the model"):
        state = weights()
        _check_sizes(settings, tasks, processor, dict(state))
        with _in_type(dtype or torch.float32), _Undrawn():
            model = build_model(settings, tasks, processor)
        model.load_state_dict(state)
    return model.eval()


def _check_sizes(
    settings: recipe.Recipe, tasks: dict[str, Task], processor: TextProcessor, state: dict[str, Tensor]
) -> None:
    """Hold the sizes that settings ask for against the weights there are, before room is made for them.

    Raises:
        WeightsError: they ask for more layers than there are tensors, or for other tensors.
    """
    check_layers("the image tower", settings.model.image, len(state))
    check_layers("the text tower", settings.model.text, len(state))
    with torch.device("meta"):
        hollow = build_model(settings, tasks, processor)  # shapes alone
    check_state(hollow, state)


@contextmanager
def _in_type(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class _Undrawn(TorchFunctionMode):
    """First values are not drawn: for a model whose every tensor is about to be loaded. A second less for each 100M."""

    _draws = (Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self._draws:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def restore_tasks(config: dict[str, Any], path: Path) -> dict[str, Task]:
    """Tasks as they were fitted. Raises RunError when the configuration is damaged."""
    tasks: dict[str, Task] = {}
    try:
        for entry in rebus_entry(config)["tasks"]:
            task = TASKS.get(entry["settings"]["name"])(TaskSettings.model_validate(entry["settings"]))
            task.restore(entry["state"])
            tasks[task.name] = task
    except RebusError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            path, "tasks with settings and state", f"{error!r}"[:200], "restore config.json, or train again"
        ) from error
    return tasks
