"""The C side: contents, the tree of facts, the hits, the worker loop. Compiled from Cython; nothing here imports upwards."""
