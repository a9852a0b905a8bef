"""Tables in tar archives, as WebDataset lays them out: read where they lie (``table``), written in parts (``writing``).

A sample is the members that share a name up to its first point: ``cats/1.jpg``, ``cats/1.json``, ``cats/1.txt``. It
does not know what is learned from them. Aizman, Maltby and Breuel, 2019, "High Performance I/O For Large Scale Deep
Learning".
"""
