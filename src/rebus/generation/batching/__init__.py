"""Continuous batching: one engine writes many texts, which come and go while it runs."""

from rebus.generation.batching.engine import ContinuousEngine
from rebus.generation.batching.requests import Done, EngineStats, Event, ImageSource, Request, Ticket
from rebus.generation.batching.thread import EngineThread

__all__ = [
    "ContinuousEngine",
    "Done",
    "EngineStats",
    "EngineThread",
    "Event",
    "ImageSource",
    "Request",
    "Ticket",
]
