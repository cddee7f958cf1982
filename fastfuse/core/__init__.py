"""The C side, compiled from Cython: contents, the tree of facts, the hits, the worker loop."""
