"""The questions as methods, made of their cards at import; `methods.pyi` names them for editors and type checkers."""

import inspect
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import date
from typing import Any
from uuid import UUID

import polars as pl

from receiver.questions.cards import Card, all_cards


class Questions(ABC):
    """One method a question. Days are inclusive, as `date` or YYYY-MM-DD; by default the last 90 days.

    `instance` and `version` narrow the answer; cells under `threshold` (5) are NULL, 1 hides nothing. `vouch_days=3`
    leaves out instances that this receiver heard on fewer than three days; by default nobody is left out.
    """

    @abstractmethod
    def ask(  # noqa: PLR0913  each by name
        self,
        question: str,
        *,
        first_day: date | str | None = None,
        last_day: date | str | None = None,
        instance: UUID | str | None = None,
        version: str | None = None,
        threshold: int | None = None,
        vouch_days: int | None = None,
    ) -> pl.DataFrame:
        """The answer to a question."""


def make_method(card: Card) -> Callable[..., pl.DataFrame]:
    """A card as a method of `Questions`: its name, what `ask` takes besides, and the card as its help."""

    def method(self: Questions, **asked: Any) -> pl.DataFrame:
        return self.ask(card.name, **asked)

    signature = inspect.signature(Questions.ask)
    parameters = [one for name, one in signature.parameters.items() if name != "question"]
    method.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    method.__name__, method.__qualname__ = card.name, f"Questions.{card.name}"
    method.__doc__ = describe(card)
    return method


def describe(card: Card) -> str:
    """A card as plain text of at most 108 columns: the question, what it counts, its traps, its columns."""
    parts = (
        ("Counts", card.counts),
        ("Numerator", card.numerator),
        ("Denominator", card.denominator),
        ("Suppression", card.suppression),
        ("Traps", card.traps),
    )
    lines = [card.question, ""]
    for label, text in parts:
        lines += [*textwrap.wrap(f"{label}: {text}.", 108), ""]
    lines.append("Columns:")
    for name, meaning in card.columns.items():
        lines += textwrap.wrap(f"{name}: {meaning}", 106, initial_indent="    ", subsequent_indent="        ")
    return "\n".join(lines)


for _card in all_cards().values():
    setattr(Questions, _card.name, make_method(_card))
