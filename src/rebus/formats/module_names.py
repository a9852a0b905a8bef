"""Names of transformers' modules, which adapters go by, as the names in files, where the two differ.

Files keep the names that a family was published with; modules were renamed since, and transformers translates when it
loads and saves. PEFT does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from rebus.formats.names import State

Rename = Callable[[Mapping[str, Tensor]], State]
_ATTENTION = {
    r"\.attention\.q_proj\.": ".attention.attention.query.",
    r"\.attention\.k_proj\.": ".attention.attention.key.",
    r"\.attention\.v_proj\.": ".attention.attention.value.",
    r"\.attention\.o_proj\.": ".attention.output.dense.",
}
# by model_type; in order
_RENAMED: dict[str, dict[str, str]] = {
    "vit": {
        r"(^|\.)layers\.(\d+)\.": r"\1encoder.layer.\2.",
        **_ATTENTION,
        r"\.mlp\.fc1\.": ".intermediate.dense.",
        r"(\.layer\.\d+)\.mlp\.fc2\.": r"\1.output.dense.",
    },
    "dinov2": _ATTENTION,
    "llava": {
        r"^model\.language_model\.": "language_model.model.",
        r"^lm_head\.": "language_model.lm_head.",
        r"^model\.(vision_tower|multi_modal_projector)\.": r"\1.",
    },
}


# the other way round, where adapters are written for a family
_FILED: dict[str, dict[str, str]] = {
    "llava": {
        r"^language_model\.model\.": "model.language_model.",
        r"^language_model\.lm_head\.": "lm_head.",
        r"^vision_tower\.(vision_model\.)?": "model.vision_tower.",
        r"^multi_modal_projector\.": "model.multi_modal_projector.",
    },
}


def renaming_of(model_type: str, *, to_modules: bool = False) -> Rename:
    """Renames a family's tensors, and the factors of adapters, from what modules are called to what files say.

    Args:
        model_type: of the family.
        to_modules: the other way round.
    """
    table = _FILED if to_modules else _RENAMED
    pairs = [(re.compile(old), new) for old, new in table.get(model_type, {}).items()]

    def renamed(state: Mapping[str, Tensor]) -> State:
        out: State = {}
        for name, tensor in state.items():
            for old, new in pairs:
                name = old.sub(new, name)
            out[name] = tensor
        return out

    return renamed
