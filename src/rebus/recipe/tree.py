"""The tree of settings: one class a branch, one field a setting, each with its meaning.

``None`` means "to be filled in from the data": a recipe that has been resolved (see ``rebus.run``) holds no such blank
where the run needs a value.
"""

from __future__ import annotations

from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["picture", "text", "category", "labels", "number", "boxes", "tags", "messages", "ignore"]
Size = Literal["nano", "micro", "mini", "small", "base"]


class Section(BaseModel):
    """A branch of the recipe: unknown keys are refused, assignments are checked."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, validate_default=True)


class Split(Section):
    """How rows are dealt to train, valid and test."""

    column: str | None = Field(None, description="a column that already says train, valid or test")
    group: str | None = Field(None, description="rows that share this column's value stay together")
    valid: float = Field(0.1, ge=0, lt=1, description="share of rows held out to watch training")
    test: float = Field(0.1, ge=0, lt=1, description="share of rows held out to judge the result")


class Data(Section):
    """Where the table is and how it is read."""

    path: str = Field("", description="table or folder")
    kinds: dict[str, Kind] = Field(default_factory=dict, description="column: kind, where the guess is wrong")
    delimiter: str | None = Field(None, description="field separator; None: found from the file")
    encoding: str | None = Field(None, description="text encoding; None: found from the file")
    split: Split = Field(default_factory=Split, description="train, valid and test")
    on_bad: Literal["refuse", "skip"] = Field("refuse", description="a broken row: stop, or leave it out and count it")
    background: str = Field("white", description="colour behind transparent pictures")
    pixel_budget: int = Field(50_000_000, gt=0, description="most pixels a picture may have, read from its header")
    workers: int = Field(
        0, ge=0, description="processes that prepare batches; 0: prepare them in a thread beside training"
    )
    cache_mb: int = Field(2048, ge=0, description="memory for decoded pictures, in MiB")


class Augment(Section):
    """Random changes to training pictures, each a pure function of (seed, epoch, index)."""

    shift: float = Field(0.0, ge=0, le=0.5, description="largest move, as a share of the side")
    scale: float = Field(0.0, ge=0, lt=1, description="largest change of size, as a share")
    flip: float = Field(0.0, ge=0, le=1, description="chance of a mirror image; off where left and right matter")
    colour: float = Field(0.0, ge=0, le=1, description="strength of brightness, contrast and saturation changes")
    hue: float = Field(0.0, ge=0, le=0.5, description="largest turn of the colour wheel, as a share of it")
    erase: float = Field(0.0, ge=0, le=1, description="chance of a blanked rectangle")


class Picture(Section):
    """How pictures become tensors."""

    size: int = Field(96, ge=8, le=2048, description="side of the square the model sees, in pixels")
    fit: Literal["pad", "crop", "squash"] = Field("pad", description="how a picture is fitted to the square")
    mean: tuple[float, float, float] = Field((0.5, 0.5, 0.5), description="subtracted from each channel (of 0 to 1)")
    std: tuple[float, float, float] = Field((0.5, 0.5, 0.5), description="divides each channel")
    augment: Augment = Field(default_factory=Augment, description="random changes in training")


class Text(Section):
    """How text becomes tokens."""

    vocab_size: int = Field(4096, ge=300, description="most pieces the tokenizer may learn")
    tokenizer: str | None = Field(None, description="a tokenizer.json to use instead of training one")
    segment: Literal["auto", "none", "jieba"] = Field("auto", description="Chinese word segmentation, for word vectors")
    max_length: int = Field(256, ge=4, description="most tokens of one text; longer ones are cut and counted")
    words: int = Field(20_000, ge=20, description="word vectors: most words that have a vector of their own")
    stop_words: Literal["none", "auto", "en", "zh"] = Field(
        "none", description="word vectors: leave out words such as 'the'; auto: of both languages"
    )
    part_of_speech: bool = Field(False, description="word vectors: also give each word's part of speech a vector")


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
    cache: str | None = Field(None, description="folder of the shards; None: shards/ in the Run")


class Tower(Section):
    """One tower: a picture tower (convnet, vit) or a text tower (decoder, encoder, recurrent, wordvectors)."""

    kind: str = Field("auto", description="name of the tower, 'auto' or 'none'")
    width: int = Field(192, ge=8, description="size of a token's vector")
    depth: int = Field(4, ge=1, description="layers (convnet: blocks a stage)")
    heads: int = Field(6, ge=1, description="attention heads")
    kv_heads: int | None = Field(None, ge=1, description="key and value heads; None: as many as heads")
    hidden: int | None = Field(None, ge=8, description="feed-forward size; None: the tower's own rule")
    patch: int = Field(16, ge=1, description="side of a picture token, in pixels")
    cell: Literal["gru", "lstm"] = Field("gru", description="recurrent: the kind of cell")
    vectors: str | None = Field(
        None, description="wordvectors: a word2vec or GloVe file, or 'skipgram' or 'cbow' to train them on the data"
    )
    qk_norm: bool = Field(True, description="decoder: normalise queries and keys")
    tied: bool = Field(True, description="decoder: output weights are the embeddings")
    head_dim: int | None = Field(None, ge=2, description="decoder: size of a head; None: width / heads")
    rope_theta: float = Field(10_000.0, gt=0, description="decoder: base of the rotary positions")
    rope_scaling: dict[str, float | int | str] | None = Field(
        None, description="decoder: Llama 3's scaled rotary positions, as its config.json says them"
    )
    eps: float | None = Field(None, gt=0, description="of the norms; None: 1e-6 (decoder), 1e-12 (encoder)")
    bias: Literal["none", "qkv", "attention", "all"] = Field(
        "none", description="decoder: which projections have biases"
    )
    norm: Literal["rms", "layer"] = Field("rms", description="decoder: RMS norms, or layer norms as GPT-2 has")
    feedforward: Literal["swiglu", "mlp"] = Field("swiglu", description="decoder: SwiGLU, or a plain MLP")
    activation: str | None = Field(None, description="of a plain MLP; None: gelu (encoder), gelu_tanh (decoder)")
    positions: Literal["rotary", "learned"] = Field("rotary", description="decoder: how a token knows where it is")
    context: int | None = Field(None, ge=4, description="most tokens it was made for; None: from text.max_length")
    rows: int | None = Field(
        None, ge=1, description="decoder, encoder: rows of the embeddings; None: one for each id of the tokenizer"
    )
    segments: int = Field(2, ge=1, description="encoder: segments there are vectors for")
    pool: Literal["mean", "cls"] = Field("mean", description="encoder: how one vector is made of many")
    dropout: float = Field(0.0, ge=0, lt=1, description="chance of dropping a value in training")
    word_dropout: float = Field(0.5, ge=0, lt=1, description="wordvectors: chance of leaving out a word in training")
    frozen: bool = Field(False, description="do not train; features are computed once and kept")
    weights: str | None = Field(None, description="a checkpoint folder or Run to start from")


class Fusion(Section):
    """How pictures and words are joined."""

    kind: str = Field("unified", description="joint, unified or cross; none: one modality, nothing to join")
    how: Literal["concat", "mean", "weighted", "sum"] = Field("concat", description="joint: how features are fused")
    depth: int = Field(2, ge=1, description="unified, cross: layers of the fusion itself (heads that classify)")
    heads: int | None = Field(None, ge=1, description="unified, cross: attention heads; None: as the text tower has")
    dropout: float = Field(0.0, ge=0, lt=1, description="chance of dropping a value in training")


class Lora(Section):
    """Low-rank adapters beside the weights (Hu et al. 2021), used where train.tune is lora."""

    rank: int = Field(8, ge=1, description="rank of an adapter")
    alpha: float = Field(16.0, gt=0, description="an adapter's output counts alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="chance of dropping an adapter's input in training")
    targets: list[str] = Field(
        default_factory=list, description="ends of the names of layers that get one; empty: all linear layers of towers"
    )


class Model(Section):
    """The towers and what joins them."""

    size: Size | None = Field(
        None, description="lm, mlm: one dial for width, depth, batch, rates and length of the run; None: as set"
    )
    picture: Tower = Field(
        default_factory=Tower, description="picture tower; kind auto: convnet where there are pictures"
    )
    text: Tower = Field(
        default_factory=Tower,
        description="text tower; kind auto: decoder; encoder or recurrent where text is only read",
    )
    fusion: Fusion = Field(default_factory=Fusion, description="how they are joined")
    lora: Lora = Field(default_factory=Lora, description="adapters")


class TaskSettings(Section):
    """One task over the shared trunk, reading its own columns."""

    name: str = Field(description="the task's name; `rebus train --help` lists them")
    weight: float = Field(1.0, gt=0, description="share of this task's loss in the sum")
    start: float = Field(0.0, ge=0, le=1, description="share of the run after which it begins to be trained")
    until: float = Field(1.0, ge=0, le=1, description="share of the run after which it is no longer trained")
    columns: dict[str, str] = Field(default_factory=dict, description="role: column, where the guess is wrong")
    per_picture: int = Field(8, ge=1, description="caption, answer: most texts trained on in one pass over a picture")
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


class Train(Section):
    """The loop."""

    epochs: float | None = Field(None, gt=0, description="passes over the training rows")
    steps: int | None = Field(None, gt=0, description="updates; wins over epochs")
    time_limit: float | None = Field(None, gt=0, description="minutes; wins over both")
    batch_size: int = Field(32, ge=1, description="pictures (or rows without pictures) a step, over all processes")
    accumulate: int = Field(1, ge=1, description="parts each step's batch is cut into, to save memory")
    optimizer: Literal["muon", "adamw", "sgd"] | None = Field(
        None, description="muon: Muon for matrices, AdamW for the rest; None: muon; with a base, see train.lr"
    )
    lr: float | None = Field(
        None,
        gt=0,
        description="peak rate of AdamW (or SGD); None: 2e-3, and what fine-tuning needs where there is a base",
    )
    muon_lr: float | None = Field(None, gt=0, description="peak rate of Muon; None: 1e-2, lower where there is a base")
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
    layer_decay: float = Field(1.0, gt=0, le=1, description="factor on the rates of each layer below the top one")
    rates: dict[str, float] = Field(
        default_factory=dict, description="part's name prefix: factor on its rates, e.g. picture: 0.1"
    )
    schedule: Literal["cosine", "linear", "wsd", "constant"] = Field(
        "cosine", description="shape of the rate over the run"
    )
    warmup: float = Field(0.03, ge=0, lt=1, description="share of the run in which the rate rises")
    decay: float = Field(0.3, ge=0, le=1, description="wsd: share of the run in which the rate falls")
    final: float = Field(0.02, ge=0, le=1, description="rate at the end, as a share of the peak")
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0: no limit")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: measured on this machine")
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights that are saved; 0: off")
    patience: int = Field(0, ge=0, description="validations without gain before stopping; 0: never stop early")
    validate_every: int = Field(0, ge=0, description="steps between validations; 0: ten times a run")
    valid_rows: int = Field(512, ge=1, description="most rows of a validation while training")
    save_every: int = Field(0, ge=0, description="steps between checkpoints; 0: with each validation")
    keep: int = Field(2, ge=1, description="checkpoints kept")


class Recipe(Section):
    """Everything that decides a run."""

    seed: int = Field(0, ge=0, description="of weights, order and augmentation")
    base: str | None = Field(
        None, description="a Run, a checkpoint folder, a .gguf file or a hub id whose weights to start from"
    )
    data: Data = Field(default_factory=Data, description="the table")
    picture: Picture = Field(default_factory=Picture, description="pictures to tensors")
    text: Text = Field(default_factory=Text, description="text to tokens")
    corpus: Corpus = Field(default_factory=Corpus, description="raw text, for lm and mlm")
    model: Model = Field(default_factory=Model, description="towers and fusion")
    tasks: list[TaskSettings] = Field(
        default_factory=list, description="what is learned; empty: found from the columns"
    )
    train: Train = Field(default_factory=Train, description="the loop")

    def save_text(self) -> str:
        """The recipe as YAML, every setting present."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
