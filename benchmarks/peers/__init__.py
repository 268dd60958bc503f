"""Real servers of other makers, as the interop tests install them, with their logging off."""
