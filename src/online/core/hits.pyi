"""HIT, LEAVE and batches. Importing it registers these verbs. For C code only; see ext/hits.pyx."""
