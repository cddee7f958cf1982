"""`pytest benchmarks/` measures each server that runs here beside tmpfs and a C server."""
