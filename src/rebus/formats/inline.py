"""Families whose image tokens stand inside the text: an image tower, a projection, and a text decoder of a family."""

from __future__ import annotations

from rebus.errors import WeightsError
from rebus.formats.config import Fields
from rebus.formats.family import CheckpointFamily, CheckpointSpec, families, family_for


class Inline(CheckpointFamily):
    """A family that sees and writes."""

    owns = ("image.", "inline.", "decoder.")

    def text_settings(self, fields: Fields, where: str, *, tied: bool) -> CheckpointSpec:
        """The text decoder of a checkpoint.

        Args:
            fields: of config.json.
            where: the file, for messages.
            tied: whether output weights are the embeddings, which the outer configuration says.

        Raises:
            WeightsError: it is of a family that is not read here, or asks for something that is not done.
        """
        inner = {"model_type": "llama", **fields.mapping("text_config")}
        known = [family for family in families() if family.inside is not None]
        family = next((family for family in known if family.matches(inner)), None)
        if family is None or family.inside is None:
            expected = f"a text_config of {', '.join(family.name for family in known)}"
            raise WeightsError(where, expected, f"'{inner['model_type']}'", "use a checkpoint with one of these")
        return family.settings({**family.inside, **inner, "tie_word_embeddings": tied}, where)

    def text_family(self, spec: CheckpointSpec) -> CheckpointFamily:
        """The family of a model's text decoder. Raises WeightsError where it is none that is read inside such a one."""
        family = family_for(CheckpointSpec(spec.text))
        if family is None or family.inside is None:
            expected = "a text decoder of a family that is read inside"
            raise WeightsError(f"the {self.name} layout", expected, "another", "save it in Rebus' own layout")
        return family

    def fits(self, spec: CheckpointSpec) -> bool:
        """Whether a model can be written so."""
        if spec.text is None or spec.image is None or spec.fusion is None or spec.image_id is None:
            return False
        family = family_for(CheckpointSpec(spec.text))
        return family is not None and family.inside is not None
