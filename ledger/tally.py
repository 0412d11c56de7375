"""How many findings are shown of a walk that takes hours and begins anew when it is through."""

from dataclasses import dataclass


@dataclass(slots=True)
class Tally:
    """What the last whole walk found, or the present one so far, whichever is more.

    So a fault is counted from when it is found until a whole walk did not find it: an alert needs a number
    that stays, and a walk is at the place of a fault for a moment only.
    """

    last: int | None = None
    """Of the last whole walk; None: there was none yet."""
    present: int = 0

    @property
    def shown(self) -> int | None:
        """The number of findings; None while nothing is known."""
        return max(self.last or 0, self.present) or self.last

    def begin(self) -> None:
        """Begin a walk; what one that was given up has found stays until another is whole."""
        self.last, self.present = self.shown, 0

    def add(self, findings: int) -> None:
        """Count what a bite of the present walk has found."""
        self.present += findings

    def end(self) -> None:
        """The present walk is whole."""
        self.last, self.present = self.present, 0
