"""Sums over pages. For C code only; see ext/sections.pyx."""
