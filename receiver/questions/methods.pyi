from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import date
from typing import Protocol
from uuid import UUID

import polars as pl

from receiver.questions.cards import Card

class Question(Protocol):
    def __call__(
        self,
        *,
        first_day: date | str | None = None,
        last_day: date | str | None = None,
        instance: UUID | str | None = None,
        version: str | None = None,
        threshold: int | None = None,
        vouch_days: int | None = None,
    ) -> pl.DataFrame: ...

class Questions(ABC):
    @abstractmethod
    def ask(
        self,
        question: str,
        *,
        first_day: date | str | None = None,
        last_day: date | str | None = None,
        instance: UUID | str | None = None,
        version: str | None = None,
        threshold: int | None = None,
        vouch_days: int | None = None,
    ) -> pl.DataFrame: ...

    active_instances: Question
    active_profiles: Question
    concentration: Question
    duplicates: Question
    feature_first_use: Question
    feature_usage: Question
    instance_lifecycle: Question
    instance_sizes: Question
    instance_survival: Question
    lateness: Question
    locales: Question
    overview: Question
    platforms: Question
    profile_lifecycle: Question
    quarantined: Question
    screens: Question
    sender_loss: Question
    sequence_gaps: Question
    stickiness: Question
    suspect_ids: Question
    unknown_keys: Question
    unknown_names: Question
    upgrade_lag: Question
    version_adoption: Question
    versions_seen: Question
    weekly_cohorts: Question

def make_method(card: Card) -> Callable[..., pl.DataFrame]: ...
def describe(card: Card) -> str: ...
