"""The tree of settings: one class a branch, one field a setting, each with its meaning.

``None`` means "to be filled in from the data": a recipe that has been resolved (see ``rebus.resolve``) holds no such
blank where the run needs a value.
"""

from __future__ import annotations

from typing import Literal

import yaml
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from rebus.recipe.kinds import KINDS, Kind, known_kinds
from rebus.recipe.model import Model
from rebus.recipe.section import PathText, Section


class Split(Section):
    """How rows are dealt to train, valid and test."""

    column: str | None = Field(None, description="a column that already says train, valid or test")
    group: str | None = Field(None, description="rows that share this column's value stay together")
    valid: float = Field(0.1, ge=0, lt=1, description="share of rows held out to watch training")
    test: float = Field(0.1, ge=0, lt=1, description="share of rows held out to judge the result")
    folds: int | None = Field(
        None, ge=2, description="deal all rows to so many parts and judge on one: cross-validation; None: as above"
    )
    fold: int = Field(0, ge=0, description="folds: the part that is judged on, counted from 0")
    deal: int = Field(0, ge=0, description="another number deals the rows otherwise")


class Data(Section):
    """Where the table is and how it is read."""

    path: PathText = Field("", description="table or folder")
    kinds: dict[str, Kind] = Field(default_factory=dict, description="column: kind, where the guess is wrong")
    inputs: dict[str, list[str]] = Field(
        default_factory=dict,
        description="modality: columns that the model reads of it, beside those that tasks name; filled in by kind",
    )
    delimiter: str | None = Field(None, description="field separator; None: found from the file")
    tag_column: int | None = Field(
        None, ge=1, description="CoNLL files: number of the column that holds the tags; None: found from the file"
    )
    sheet: str | None = Field(None, description="sheet of a spreadsheet; None: the first that holds something")
    header: int | None = Field(None, ge=1, description="line that names the columns; None: found from the file")
    encoding: str | None = Field(None, description="text encoding; None: found from the file")
    blanks: list[str] | None = Field(
        None, description="words that say nothing in a cell; None: nan, NULL, #N/A ...; []: only empty cells do"
    )
    numbers: dict[str, Literal["point", "comma"]] = Field(
        default_factory=dict, description="column: its decimal mark, where the guess is wrong"
    )
    separators: dict[str, str] = Field(
        default_factory=dict, description="column: what divides the labels of a cell, where the guess is wrong"
    )
    ignore: list[str] = Field(default_factory=list, description="columns that the model does not read")
    split: Split = Field(default_factory=Split, description="train, valid and test")
    on_bad: Literal["refuse", "skip"] = Field("refuse", description="a broken row: stop, or leave it out and count it")
    background: str = Field("white", description="colour behind transparent images")
    levels: tuple[float, float] | None = Field(
        None,
        description="black and white of images with more than 8 bits a sample; None: found from all of them",
    )
    pixel_budget: int = Field(50_000_000, gt=0, description="most pixels an image may have, read from its header")
    workers: int = Field(
        0, ge=0, description="processes that prepare batches; 0: prepare them in a thread beside training"
    )
    cache_mb: int = Field(2048, ge=0, description="memory for decoded images, in MiB, over all processes")
    jpeg: Literal["auto", "pil", "simplejpeg"] = Field(
        "auto", description="what decodes JPEG files; auto: simplejpeg where it is installed"
    )
    order: Literal["rows", "blocks"] = Field(
        "rows", description="training order: any row next; blocks: near rows together, for slow or remote disks"
    )

    @field_validator("kinds")
    @classmethod
    def _kinds_exist(cls, kinds: dict[str, Kind]) -> dict[str, Kind]:
        for column, kind in kinds.items():
            if kind not in KINDS and kind not in (known := known_kinds()):
                raise PydanticCustomError("kind", f"one of {', '.join(known)} for column '{column}'")
        return kinds


class Augment(Section):
    """Random changes to training images, each a pure function of (seed, epoch, index)."""

    shift: float = Field(0.0, ge=0, le=0.5, description="largest move, as a share of the side")
    scale: float = Field(0.0, ge=0, lt=1, description="largest change of size, as a share")
    flip: float | None = Field(
        None,
        ge=0,
        le=1,
        description="chance of a mirror image; None: half where other changes are on and no text speaks of left or "
        "right, else 0",
    )
    colour: float = Field(0.0, ge=0, le=1, description="strength of brightness, contrast and saturation changes")
    hue: float = Field(0.0, ge=0, le=0.5, description="largest turn of the colour wheel, as a share of it")
    erase: float = Field(0.0, ge=0, le=1, description="chance of a blanked rectangle")
    mixup: float = Field(
        0.0, ge=0, description="classify, tag, regress: images, targets of two rows as one (Beta's alpha); 0: off"
    )
    cutmix: float = Field(0.0, ge=0, description="the same, with a rectangle of the other image; 0: off")
    crop: float = Field(
        0.0, ge=0, lt=1, description="smallest share of the image that a random crop keeps, scaled up again; 0: off"
    )
    aspect: float | None = Field(
        None, ge=1, description="crop: how many times wider or higher than the image a crop may be; None: 4/3"
    )
    grey: float = Field(0.0, ge=0, le=1, description="chance of losing all colour")


class Image(Section):
    """How images become tensors."""

    size: int = Field(96, ge=8, le=2048, description="side of the square the model sees, in pixels")
    fit: Literal["pad", "crop", "squash", "twice"] = Field(
        "pad", description="how an image is fitted to the square; twice: its longer side to edge, then squashed"
    )
    mean: tuple[float, float, float] = Field((0.5, 0.5, 0.5), description="subtracted from each channel (of 0 to 1)")
    std: tuple[float, float, float] = Field((0.5, 0.5, 0.5), description="divides each channel")
    resample: Literal["auto", "nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = Field(
        "auto",
        description="filter that scales images; any but auto: step by step as Hugging Face's processors do",
    )
    edge: int | None = Field(
        None, ge=8, description="with a filter: what is scaled to before the middle is cut out; None: the size"
    )
    augment: Augment = Field(default_factory=Augment, description="random changes in training")


class Text(Section):
    """How text becomes tokens."""

    vocab_size: int = Field(4096, ge=300, description="most pieces the tokenizer may learn")
    tokenizer: PathText | None = Field(None, description="a tokenizer.json to use instead of training one")
    nfkc: bool | None = Field(
        None, description="read ² as 2, ， as , (Unicode NFKC); None: only where no task writes text"
    )
    segment: Literal["auto", "none", "jieba"] = Field("auto", description="how Chinese is cut into words")
    max_length: int = Field(256, ge=4, description="most tokens of one text; longer ones are cut and counted")
    reader: str | None = Field(
        None,
        description="the text tower's own reader, of another package; None: what the tower needs, else the tokenizer",
    )
    options: dict[str, str | int | float | bool] = Field(default_factory=dict, description="settings of that reader")
    file: PathText | None = Field(None, description="a file that reader starts from, such as word vectors")


class Clean(Section):
    """What is left out of raw text before training on it; everything left out is counted."""

    nfkc: bool = Field(True, description="Unicode NFKC: full-width letters and ligatures become plain ones")
    full_width: bool = Field(True, description="nfkc: keep ，！？：；（）～… as Chinese writes them")
    exact: bool = Field(True, description="leave out documents that are the same as an earlier one")
    near: float = Field(
        0.0, ge=0, le=1, description="leave out documents this alike (Jaccard, by MinHash) to an earlier one; 0: off"
    )
    languages: list[str] = Field(default_factory=list, description="keep these only, e.g. [en, zh]; empty: all")
    min_chars: int = Field(1, ge=0, description="shortest document kept, in characters")
    max_chars: int | None = Field(None, ge=1, description="longest document kept, in characters; None: no limit")
    pii: bool = Field(False, description="replace e-mail addresses, telephone, card and identity numbers")
    scrubbers: list[str] = Field(default_factory=list, description="more scrubbers, by the names plug-ins give them")


class Corpus(Section):
    """Raw text for the tasks lm and mlm: cut into tokens once, then read from shards."""

    column: str | None = Field(None, description="the column that holds the text, where the source is a table")
    document: Literal["auto", "file", "paragraph", "line"] = Field(
        "auto", description="plain text files: what one document is; auto: a file"
    )
    clean: Clean = Field(default_factory=Clean, description="what is left out")
    block: int = Field(256, ge=8, description="tokens of a training row")
    packing: Literal["bestfit", "stream"] = Field(
        "bestfit", description="bestfit: cut as few documents as can be; stream: end to end, no padding"
    )
    inner_mask: bool = Field(False, description="tokens do not see other documents that share their row")
    shard_tokens: int = Field(50_000_000, ge=1000, description="most tokens of one shard file")
    line_mb: int = Field(
        64, ge=1, description="longest JSONL line, CSV line or JSON object read, in million characters"
    )
    sample_mb: int = Field(64, ge=1, description="text the tokenizer is trained on, in MB, drawn from all of it")
    mask: float = Field(0.15, gt=0, lt=1, description="mlm: share of words that are to be guessed")
    cache: PathText | None = Field(None, description="folder of the shards; None: shards/ in the Run")


class TaskSettings(Section):
    """One task over the shared trunk, reading its own columns."""

    name: str = Field(description="the task's name; `rebus train --help` lists them")
    weight: float = Field(1.0, gt=0, description="share of this task's loss in the sum")
    start: float = Field(0.0, ge=0, le=1, description="share of the run after which it begins to be trained")
    until: float = Field(1.0, ge=0, le=1, description="share of the run after which it is no longer trained")
    columns: dict[str, str] = Field(default_factory=dict, description="role: column, where the guess is wrong")
    blanks: list[str] | None = Field(None, description="words that say nothing in its columns; None: as data.blanks")
    separator: str | None = Field(
        None, description="tag: what divides the labels of a cell; None: as data.separators, or found from the cells"
    )
    numbers: Literal["point", "comma"] | None = Field(
        None, description="regress, similar: the decimal mark; None: as data.numbers, or found from the cells"
    )
    unseen: list[str] = Field(
        default_factory=list,
        description="answer: [question] asks without showing the question, to see what it is worth",
    )
    per_image: int = Field(8, ge=1, description="several texts an image: most trained on in one pass over it")
    max_new_tokens: int = Field(48, ge=1, description="tasks that write: longest text generated")
    length_weight: float = Field(
        0.0, ge=0, le=1, description="caption, answer: 0 weighs tokens alike, 1 weighs texts alike"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")
    layout: Literal["chat", "plain"] = Field(
        "chat", description="tasks that write: prompts as turns, or as text that the answer goes on from"
    )
    instruction: str = Field("", description="generate, translate, choose: said before each row's prompt")
    scheme: Literal["BIO", "BIOES"] = Field("BIO", description="ner: how spans are written as tags inside the model")
    label_names: list[str] = Field(
        default_factory=list, description="ner: what tags given as numbers mean, in their order: [O, B-PER, ...]"
    )
    temperature: float = Field(0.05, gt=0, description="similar: divides the cosines that the loss compares")
    method: Literal["simclr", "masked"] = Field(
        "simclr", description="images: know an image by another view of it (SimCLR), or guess its hidden patches"
    )
    view_temperature: float = Field(0.2, gt=0, description="images, simclr: divides the cosines of views")
    hide: float | None = Field(
        None, gt=0, lt=1, description="images, masked: share of patches hidden; None: 0.75 (vit), 0.6 (others)"
    )
    loss: Literal["softmax", "sigmoid"] = Field(
        "softmax", description="retrieve: one right partner among the batch's (CLIP), or each pair by itself (SigLIP)"
    )


class Stage(Section):
    """One stage of a run: what learns for a share of it. None: as ``train`` says, or what ``tune`` usually needs."""

    share: float = Field(gt=0, le=1, description="of the run; the shares of all stages add up to 1")
    tune: Literal["full", "lora", "head"] = Field("full", description="what learns, as in train.tune")
    learns: list[str] | None = Field(
        None, description="lora, head: parts that learn as well; None: those that no base has weights for"
    )
    optimizer: Literal["muon", "adamw", "sgd"] | None = Field(None, description="of this stage")
    lr: float | None = Field(None, gt=0, le=1e30, description="peak rate of AdamW (or SGD) in this stage")
    muon_lr: float | None = Field(None, gt=0, le=1e30, description="peak rate of Muon in this stage")
    rates: dict[str, float] | None = Field(None, description="part's name prefix: factor on its rates in this stage")


class Train(Section):
    """The loop."""

    epochs: float | None = Field(None, gt=0, description="passes over the training rows")
    steps: int | None = Field(None, gt=0, description="updates; wins over epochs")
    time_limit: float | None = Field(None, gt=0, description="minutes; wins over both")
    batch_size: int = Field(32, ge=1, description="images (or rows without images) a step, over all processes")
    accumulate: int = Field(1, ge=1, description="parts each step's batch is cut into, to save memory")
    grad_cache: int = Field(
        0, ge=0, description="retrieve: images held in memory at once, with the big batch's own gradients; 0: all"
    )
    optimizer: Literal["muon", "adamw", "sgd"] | None = Field(
        None, description="muon: Muon for matrices, AdamW for the rest; None: muon; with a base, see train.lr"
    )
    lr: float | None = Field(
        None,
        gt=0,
        le=1e30,  # what a float32 can be multiplied with
        description="peak rate of AdamW (or SGD); None: 2e-3, and what fine-tuning needs where there is a base",
    )
    muon_lr: float | None = Field(
        None, gt=0, le=1e30, description="peak rate of Muon; None: 1e-2, lower where there is a base"
    )
    muon_steps: int = Field(5, ge=1, le=10, description="products by which Muon makes an update orthogonal")
    weight_decay: float = Field(0.05, ge=0, description="decoupled decay of matrices")
    betas: tuple[float, float] = Field((0.9, 0.98), description="AdamW's two averages")
    momentum: float = Field(0.95, ge=0, lt=1, description="of Muon and SGD")
    tune: Literal["full", "lora", "head"] = Field(
        "full", description="what learns: everything, adapters and heads, or heads only"
    )
    learns: list[str] | None = Field(
        None, description="lora, head: parts that learn as well; None: those that no base has weights for"
    )
    stages: list[Stage] = Field(
        default_factory=list,
        description="what learns one after the other, each with a schedule of its own; empty: one stage, or two where "
        "both towers come from elsewhere",
    )
    layer_decay: float = Field(1.0, gt=0, le=1, description="factor on the rates of each layer below the top one")
    rates: dict[str, float] = Field(
        default_factory=dict, description="part's name prefix: factor on its rates, e.g. image: 0.1"
    )
    schedule: Literal["cosine", "linear", "wsd", "constant"] = Field(
        "cosine", description="shape of the rate over the run"
    )
    warmup: float = Field(0.03, ge=0, lt=1, description="share of the run in which the rate rises")
    decay: float = Field(0.3, ge=0, le=1, description="wsd: share of the run in which the rate falls")
    final: float = Field(0.02, ge=0, le=1, description="rate at the end, as a share of the peak")
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0: no limit")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="auto: bf16 where this machine multiplies it in hardware; the saved recipe says which",
    )
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights that are saved; 0: off")
    patience: int = Field(0, ge=0, description="validations without gain before stopping; 0: never stop early")
    validate_every: int = Field(0, ge=0, description="steps between validations; 0: ten times a run")
    valid_rows: int = Field(512, ge=1, description="most rows of a validation while training")
    save_every: int = Field(0, ge=0, description="steps between checkpoints; 0: with each validation")
    keep: int = Field(2, ge=1, description="checkpoints kept")
    final_weights: Literal["best", "last"] = Field(
        "best", description="weights of the finished model: of the best validation, or of the last step"
    )


class Report(Section):
    """What the report of a run tells beside its figures."""

    groups: list[str] | None = Field(
        None, description="columns whose values are judged apart; None: those of few values that are not learned from"
    )
    explained: int = Field(4, ge=0, description="test examples whose answers are explained; 0: none")
    watts_per_core: float = Field(
        5.0, gt=0, description="power of a busy processor core, for the estimate where counters cannot be read"
    )


class Recipe(Section):
    """Everything that decides a run."""

    seed: int = Field(0, ge=0, description="of weights, order and augmentation")
    base: PathText | None = Field(
        None, description="a Run, a checkpoint folder, a .gguf file or a hub id whose weights to start from"
    )
    data: Data = Field(default_factory=Data, description="the table")
    image: Image = Field(default_factory=Image, description="images to tensors")
    text: Text = Field(default_factory=Text, description="text to tokens")
    corpus: Corpus = Field(default_factory=Corpus, description="raw text, for lm and mlm")
    model: Model = Field(default_factory=Model, description="towers and fusion")
    tasks: list[TaskSettings] = Field(
        default_factory=list, description="what is learned; empty: found from the columns"
    )
    train: Train = Field(default_factory=Train, description="the loop")
    report: Report = Field(default_factory=Report, description="what the report tells")

    def save_text(self) -> str:
        """The recipe as YAML, every setting present."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
