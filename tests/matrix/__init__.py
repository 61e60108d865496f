"""The resiliency matrix; see cells.py."""
