"""Copies of the warehouse for readers: snapshots and Parquet files."""
