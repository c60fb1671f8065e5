"""Exports a dict."""

exports = {"double": lambda n: n * 2, "colour": "red", "default": lambda *args: ["default", *args]}
