"""Servers somewhere else as devices of this lab: `driver = tsv | plesty | scpi | vxi11 | ...`."""
