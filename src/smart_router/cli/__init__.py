"""The program `smart-router`: one file per command, main.py puts them together (docs/command-line.md)."""
