"""MessagePack-RPC. When imported, connections speak it. For C code alone; see ext/msgpack.pyx."""
