"""What happens to stored data besides intake: start-up, recovery, rebuild, retention and erasure."""
