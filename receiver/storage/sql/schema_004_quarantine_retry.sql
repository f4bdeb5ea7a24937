-- A body that was put aside can be read again, after a fix or with a higher limit.
ALTER TABLE quarantine ADD COLUMN became VARCHAR; -- loaded or duplicate: what a retry made of it; NULL: none could
