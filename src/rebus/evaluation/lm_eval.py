"""Let lm-evaluation-harness drive a Run or a checkpoint: its tasks, our model.

In Python: ``lm_eval.simple_evaluate(model=rebus.evaluation.lm_eval.model("runs/mine"), tasks=["hellaswag"])``. As a
command: ``python -m rebus.evaluation.lm_eval --model rebus --model_args path=runs/mine --tasks hellaswag``. The library
is not imported before the first model is made; where it is imported already, it is told of us at once. Source: Gao et
al., "A framework for few-shot language model evaluation", 2024.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from rebus.errors import DataError, MissingPackageError
from rebus.generation.sampling import Sampling
from rebus.generation.score import score
from rebus.inference.predictor import Predictor
from rebus.tasks.layout import opened
from rebus.tasks.likelihood import reach, score_texts

_LONGEST = 256  # tokens written where a task does not say


def model(path: str | Path, **settings: Any) -> Any:
    """A model for ``lm_eval.simple_evaluate(model=...)``.

    Args:
        path: a Run folder, or a checkpoint of another project.
        settings: ``max_length`` (tokens read at most) and ``max_gen_toks`` (written at most).

    Raises:
        MissingPackageError: lm_eval is not installed. DataError: the model does not write.
    """
    return adapter()(path=str(path), **settings)


@cache
def adapter() -> Any:
    """The class that lm-evaluation-harness knows as ``rebus``. Raises MissingPackageError without the library."""
    try:
        from lm_eval.api.model import TemplateLM
        from lm_eval.api.registry import register_model
    except ImportError as error:
        raise MissingPackageError("lm_eval", "lm_eval", "evaluating with lm-evaluation-harness") from error

    @register_model("rebus")
    class RebusLM(TemplateLM):  # type: ignore[misc]
        """A Run or a checkpoint, asked by lm-evaluation-harness."""

        def __init__(
            self,
            path: str,
            *,
            max_length: int | None = None,
            max_gen_toks: int = _LONGEST,
            **more: Any,
        ) -> None:
            super().__init__()
            self.driver = Driver(
                Predictor.open(path),
                max_length=None if max_length is None else int(max_length),
                longest=int(max_gen_toks),
            )

        @property
        def eot_token_id(self) -> int:
            """Ends a text."""
            return self.driver.tokenizer.eos_id

        @property
        def prefix_token_id(self) -> int:
            """Stands before a text that has nothing before it."""
            return opened([], self.driver.predictor.processor)[-1]

        @property
        def max_length(self) -> int:
            """Most tokens read."""
            return self.driver.most

        @property
        def tokenizer_name(self) -> str:
            """Names the tokenizer in the harness's caches."""
            return self.driver.tokenizer.fingerprint

        def chat_template(self, chat_template: bool | str = False) -> str | None:
            """The template in Jinja; nothing where none is wanted or there is none."""
            return (self.driver.tokenizer.chat_template or "") if chat_template else None

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            """A conversation as text."""
            return self.driver.laid_out(chat_history, add_generation_prompt)

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **more: Any) -> list[int]:
            """Ids of a text from its beginning; of one that goes on, where ``add_special_tokens`` is False."""
            return self.driver.encode(string, begin=add_special_tokens is not False)

        def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
            before, wording = super()._encode_pair(context, continuation)
            return before, wording or self.tok_encode(
                continuation, add_special_tokens=False
            )  # it merged with the context

        def _loglikelihood_tokens(
            self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **more: Any
        ) -> list[tuple[float, bool]]:
            lines = self.driver.likelihoods([(context, wording) for _, context, wording in requests])
            for (texts, _, _), item in zip(requests, lines, strict=True):
                self.cache_hook.add_partial("loglikelihood", texts, item)
            return lines

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            """The log-likelihood of whole texts."""
            texts = [request.args[0] for request in requests]
            lines = [item.logprob for item in score_texts(self.driver.predictor, texts, most=self.driver.most)]
            for text, item in zip(texts, lines, strict=True):
                self.cache_hook.add_partial("loglikelihood_rolling", (text,), item)
            return lines

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            """Go on from each context until a stop string."""
            asked = [(request.args[0], dict(request.args[1])) for request in requests]
            lines = self.driver.go_on(asked)
            for (context, how), item in zip(asked, lines, strict=True):
                self.cache_hook.add_partial("generate_until", (context, how), item)
            return lines

    return RebusLM


class Driver:
    """What the harness asks, done by a predictor: texts in, log-likelihoods and texts out.

    Args:
        predictor: the model.
        max_length: tokens read at most; None: what the model reads.
        longest: tokens written at most, where a task does not say.

    Raises:
        DataError: the model does not write.
    """

    def __init__(self, predictor: Predictor, *, max_length: int | None = None, longest: int = _LONGEST) -> None:
        if predictor.model.decoder is None:
            raise DataError("lm_eval", "a model that writes", "one that only reads", "name another")
        self.predictor, self.tokenizer = predictor, predictor.processor.tokenizer
        self.most, self.longest = max_length or reach(predictor), longest
        self._templated = False

    def encode(self, text: str, *, begin: bool = True) -> list[int]:
        """Ids of a text. Once conversations were laid out, special tokens in it are read as such."""
        ids = self.tokenizer.encode(text, allow_special=self._templated)
        if not begin or (self._templated and ids[:1] == self.tokenizer.start()[:1] != []):
            return ids
        return opened(ids, self.predictor.processor) if ids or not self.tokenizer.is_foreign else []

    def laid_out(self, messages: Sequence[dict[str, str]], prompt: bool) -> str:
        """A conversation as text; without ``prompt``, the last answer is left open, to be gone on with."""
        self._templated = True
        if prompt or not messages or messages[-1]["role"] != "assistant":
            return self.tokenizer.decode(self.tokenizer.chat(messages, prompt=prompt), skip_special=False)
        before = self.tokenizer.chat(messages[:-1], prompt=True)
        return self.tokenizer.decode(before, skip_special=False) + messages[-1]["content"]

    def likelihoods(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        """The log-likelihood of each continuation, and whether it is what greedy decoding writes.

        Contexts that follow one another and are the same are read once.
        """
        grouped = [(key, [text for _, text in some]) for key, some in groupby(pairs, key=lambda pair: pair[0])]
        prompts: list[list[int]] = []
        continuations: list[list[list[int]]] = []
        for context, several in grouped:
            if max(map(len, several)) <= self.most:
                prompts.append(context)
                continuations.append(several)
                continue
            for text in several:  # longer than the model reads: its end, as the harness cuts it
                whole = (context + text)[-(self.most + 1) :]
                before = max(1, len(whole) - len(text))
                prompts.append(whole[:before])
                continuations.append([whole[before:]])
        result = score(
            self.predictor.model,
            prompts,
            continuations,
            most=self.most,
            vocab_size=self.tokenizer.vocab_size,
        )
        return [(item.logprob, item.greedy) for several in result for item in several]

    def go_on(self, asked: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
        """What the model writes after each context, up to the first of its stop strings."""
        names: list[str] = []
        for how, some in groupby(asked, key=lambda item: item[1]):
            names += self._written([context for context, _ in some], how)
        return names

    def _written(self, contexts: list[str], how: dict[str, Any]) -> list[str]:
        until = how.get("until") or []
        stops = [stop for stop in ([until] if isinstance(until, str) else until) if stop]
        named = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
        asked = int(next((how[name] for name in named if how.get(name) is not None), self.longest))
        longest = max(1, min(asked, self.most - 1))
        sampling = Sampling(
            max_new_tokens=longest,
            temperature=float(how.get("temperature") or 0.0) if how.get("do_sample", True) else 0.0,
            top_p=float(how.get("top_p") or 1.0),
            top_k=int(how.get("top_k") or 0),
        )
        prompts = [self.encode(context)[-(self.most - longest) :] for context in contexts]
        message = self.predictor.writing.write(
            [prompt or [self.tokenizer.eos_id] for prompt in prompts], sampling, stop=stops
        )
        return [item.text for item in message]


if "lm_eval" in sys.modules:
    adapter()

if __name__ == "__main__":
    adapter()  # before the harness reads --model
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
