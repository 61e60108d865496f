"""Hits in batches, with memory waits overlapped. For C code only; see ext/ahead.pyx."""
