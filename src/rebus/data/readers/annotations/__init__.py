"""Annotation formats of well-known tools: COCO, VQAv2, Label Studio, YOLO, Pascal VOC, CVAT.

Boxes become the column ``boxes``: a list of ``{"label", "box": [x0, y0, x1, y1]}`` in fractions of the image.
"""

from __future__ import annotations

from rebus.data.readers.annotations.document import document_table, folder_table

__all__ = ["document_table", "folder_table"]
