"""Whether a map can be believed: how it does in tests that a wrong map fails.

``curves`` deletion and insertion; ``pointing`` the pointing game; ``sanity`` maps with random weights; ``measure`` all
three for several methods; ``checking`` on rows of a table; ``store`` the Run's explain.json.
"""

from rebus.explain.faithfulness.checking import check_faithfulness, measure_rows
from rebus.explain.faithfulness.figures import ENOUGH, Faithfulness, MethodFigures, chosen
from rebus.explain.faithfulness.measure import Effort
from rebus.explain.faithfulness.store import kept_method, read_faithfulness

__all__ = [
    "ENOUGH",
    "Effort",
    "Faithfulness",
    "MethodFigures",
    "check_faithfulness",
    "chosen",
    "kept_method",
    "measure_rows",
    "read_faithfulness",
]
