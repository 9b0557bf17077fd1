"""A second implementation of docs/reference/format.md, written from that page alone."""
