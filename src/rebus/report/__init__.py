"""The report of a run: plots, report.html, the model card. Plain values in, files out; knows no model."""

from rebus.report.card import write_card
from rebus.report.contents import Example, Plot, ReportData, Result, Table, results_of, table_of
from rebus.report.html import write_report

__all__ = [
    "Example",
    "Plot",
    "ReportData",
    "Result",
    "Table",
    "results_of",
    "table_of",
    "write_card",
    "write_report",
]
