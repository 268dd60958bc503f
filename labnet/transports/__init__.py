"""How bytes leave and arrive where Twisted's own ways are not enough."""
