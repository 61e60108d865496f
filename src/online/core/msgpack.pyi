"""MessagePack-RPC. Importing it registers the dialect. For C code only; see ext/msgpack.pyx."""
