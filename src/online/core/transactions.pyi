"""MULTI and EXEC. When imported, connections know them. For C code alone; see ext/transactions.pyx."""
