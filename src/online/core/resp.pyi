"""RESP. Importing it registers the dialect. For C code only; see ext/resp.pyx."""
