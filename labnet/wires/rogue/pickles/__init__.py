"""PyRogue's pickles, read by an exact allow-list and written without PyRogue."""
