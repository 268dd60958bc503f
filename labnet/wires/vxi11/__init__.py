"""VXI-11: instruments behind ONC RPC, as VISA INSTR sessions reach them."""
