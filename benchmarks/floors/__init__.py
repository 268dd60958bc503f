"""The least that a server can do, for comparison."""
