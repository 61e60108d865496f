"""HIT, LEAVE and batches. When imported, connections know them. For C code alone; see ext/hits.pyx."""
