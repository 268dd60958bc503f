"""Sphinx configuration; `make-html` is ``python -m sphinx -W -b html docs docs/_build``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "labnet"
author = "the labnet developers"
copyright = "2026, the labnet developers"
extensions = ["myst_parser", "sphinx.ext.autodoc", "config_reference"]
myst_enable_extensions = ["colon_fence", "deflist"]
html_theme = "furo"
html_title = "labnet"
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
default_role = "any"
nitpicky = False
suppress_warnings = ["ref.any"]
