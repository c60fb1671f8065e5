"""How Sphinx builds these pages: ``sphinx-build -W -b html docs docs/_build/html``."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "relieve-py"
author = "relieve_py contributors"
copyright = "relieve_py contributors"
version = release = installed_version("relieve-py")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
nitpicky = False  # annotations name types of private modules, which have no page

html_theme = "furo"
html_title = "relieve-py"
html_static_path = ["_static"]

myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
