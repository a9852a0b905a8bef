"""The data road: reading tables, column kinds, images, splits, checks and augmentation.

Nothing here knows models or tasks' losses; only ``transforms`` and ``store`` turn images into arrays of one size.
"""
