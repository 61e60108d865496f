"""MULTI and EXEC. Importing it registers these verbs. For C code only; see ext/transactions.pyx."""
