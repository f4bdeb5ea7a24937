"""One body's way in: decode, decide, journal, commit."""
