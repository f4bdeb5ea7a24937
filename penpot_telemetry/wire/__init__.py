"""The wire format, shared by both sides: fressian, blob, payload and the columnar batch. No I/O, no clock."""
