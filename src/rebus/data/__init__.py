"""The data road: reading tables, column kinds, pictures, splits, checks and augmentation.

Nothing here knows models or tasks' losses; only ``transforms`` and ``store`` turn pictures into arrays of one size.
"""
