"""The hot questions. Importing it registers these verbs. For C code only; see ext/questions.pyx."""
