"""How programs find the lab: mDNS/DNS-SD and the LXI identification document."""
