"""Python objects as devices: plain ones, and those of libraries for instruments."""
