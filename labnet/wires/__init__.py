"""The wire formats: one package each, a row each in `labnet.wires.table`."""
