"""Routes: file systems written as handlers of path patterns."""
