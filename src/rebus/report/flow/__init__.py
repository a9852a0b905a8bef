"""The signal-flow page: one example followed through the road that data takes, told from the model's real tensors.

    flow(predictor, image=..., text=...) -> Flow     what happened, station by station
    flow_html(flow, lang) -> str                       a fragment to be put into any page
    write_flow(path, flow, lang)                       a page that stands alone

It changes no model, and knows no server and no command line.
"""

from __future__ import annotations

from rebus.report.flow.follow import flow
from rebus.report.flow.page import flow_html, write_flow
from rebus.report.flow.result import Flow, Shape, Station

__all__ = ["Flow", "Shape", "Station", "flow", "flow_html", "write_flow"]
