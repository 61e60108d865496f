"""Hits side by side. For C code alone; see ext/ahead.pyx."""
