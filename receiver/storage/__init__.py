"""What is kept: the journal of deliveries, the warehouse, dead letters and tombstones."""
