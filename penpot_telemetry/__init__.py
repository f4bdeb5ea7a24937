"""Anonymous product telemetry beside a Penpot: anonymise, store, ship and forget, exactly once."""
