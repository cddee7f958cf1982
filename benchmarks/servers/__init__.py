"""The servers in Python: `python -m benchmarks.servers.NAME SOURCE MOUNTPOINT`."""
