"""The variables of an environment as text, numbers, booleans and secrets.

An empty value counts as unset, as in Penpot's own compose files. No message repeats a value.
"""

from collections.abc import Mapping
from pathlib import Path

from penpot_telemetry.errors import ConfigError

PENPOT_WORDS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
"""What Penpot takes for a boolean: these six words, in these letters."""

WORDS = PENPOT_WORDS | {"yes": True, "on": True, "no": False, "off": False}
"""What our own variables take, in any letters."""


class Environment:
    """Typed access to the variables of an environment; every failure names its variable."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    @property
    def variables(self) -> Mapping[str, str]:
        """Everything as it was given."""
        return self._variables

    def text(self, name: str) -> str | None:
        """A value without the blanks around it; None when it is empty."""
        text = self._variables.get(name, "").strip()
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ConfigError(f"{name} should be text in UTF-8")
        return text or None

    def boolean(self, name: str, *, penpot: bool = False) -> bool:
        """A switch, off when it is not set. `penpot`: a variable of Penpot's own, which takes its six words only."""
        text = self.text(name)
        if text is None:
            return False
        found = PENPOT_WORDS.get(text) if penpot else WORDS.get(text.lower())
        if found is None:
            raise ConfigError(f"{name} should be true or false")
        return found

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number within bounds."""
        text = self.text(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ConfigError(f"{name} should be a whole number between {least} and {most}")
        return int(text)

    def seconds(self, name: str, default: float) -> float:
        """Seconds, above 0 and up to a day."""
        text = self.text(name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 < value <= 86_400:  # noqa: PLR2004  a day
            raise ConfigError(f"{name} should be a number of seconds above 0, for example {default:g}")
        return value

    def secret(self, name: str) -> str | None:
        """The value itself, or the content of the file that `<name>_FILE` names."""
        path = self.text(f"{name}_FILE")
        if path is None:
            return self.text(name)
        try:
            text = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name}_FILE cannot be read: {type(error).__name__}") from None
        if not text or "\0" in text:
            raise ConfigError(f"{name}_FILE is an empty file" if not text else f"{name}_FILE should hold text")
        return text
