"""Arguments of verbs. For C code only; see ext/arguments.pyx."""
