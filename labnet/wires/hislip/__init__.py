"""HiSLIP: instruments over two TCP connections (IVI-6.1)."""
