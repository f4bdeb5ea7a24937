"""Fressian, as Penpot writes and reads it: bytes to values and back. Knows no events, no zstd, no HTTP."""
