"""The demo's data: the same things drawn by eight artists, composed into scenes with questions and exact answers.

``pack`` reads the images, ``scenes`` composes, ``wording`` asks, ``write`` makes a table of it like any user's.
"""
