"""Arguments of verbs. For C code alone; see ext/arguments.pyx."""
