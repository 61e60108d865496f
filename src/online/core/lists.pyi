"""Lists and cursors. For C code only; see ext/lists.pyx."""
