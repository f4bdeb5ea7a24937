"""The reference receiver: batches of telemetry events in over HTTP, a DuckDB warehouse out."""
