"""What the operator reads: the account, the instances, the disk usage."""
