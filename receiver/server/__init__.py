"""The running server: routes, access, limits, and the thread that writes."""
