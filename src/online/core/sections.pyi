"""Sums over pages. For C code alone; see ext/sections.pyx."""
