"""The hot questions. When imported, connections know them. For C code alone; see ext/questions.pyx."""
