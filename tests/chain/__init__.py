"""Any wire to any wire: a client of one, a device behind another, labnet between them."""
