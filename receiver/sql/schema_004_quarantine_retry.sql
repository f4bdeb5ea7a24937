-- What a retry made of a body that was put aside: `loaded` or `duplicate`, NULL while no retry could read it.
ALTER TABLE quarantine ADD COLUMN became VARCHAR;
