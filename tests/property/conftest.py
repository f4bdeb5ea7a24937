"""Hypothesis without a deadline: a machine that others share may be slow at any moment, and no test asserts a time."""

from hypothesis import settings

settings.register_profile("road", deadline=None)
settings.load_profile("road")
