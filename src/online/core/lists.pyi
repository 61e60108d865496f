"""Lists and cursors. For C code alone; see ext/lists.pyx."""
