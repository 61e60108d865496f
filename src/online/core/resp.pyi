"""RESP. When imported, connections speak it. For C code alone; see ext/resp.pyx."""
