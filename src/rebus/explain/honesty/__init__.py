"""Whether a map can be believed: how it does in tests that a wrong map fails.

``curves`` deletion and insertion; ``pointing`` the pointing game; ``sanity`` maps with random weights; ``measure`` all
three for several methods; ``checking`` on rows of a table; ``store`` the Run's explain.json.
"""

from rebus.explain.honesty.checking import check_honesty, measure_rows
from rebus.explain.honesty.figures import ENOUGH, Honesty, MethodFigures, chosen
from rebus.explain.honesty.measure import Effort
from rebus.explain.honesty.store import kept_method, read_honesty

__all__ = [
    "ENOUGH",
    "Effort",
    "Honesty",
    "MethodFigures",
    "check_honesty",
    "chosen",
    "kept_method",
    "measure_rows",
    "read_honesty",
]
