"""What a patch tells of each of its edits: what was asked, by which editor, what came out, and at what harm."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from editable.errors import UserError
from editable.text_files import parse_json

__all__ = ["EditRecord", "Harm"]


class Harm(NamedTuple):
    """What an edit costs on images that are neither edited nor views of edited ones, against the unedited network.

    Attributes:
        counted: ``broken`` images, right before and wrong now, or ``changed`` predictions.
        number: How many of them; none where only the bound was kept.
        images: Of how many that were looked at.
        bound: Upper bound of the rate among images like these, a fraction.
        level: At which the bound holds.
        budget: The largest rate that was allowed, if there was such a promise.
    """

    counted: str
    number: int | None
    images: int
    bound: float
    level: float
    budget: float | None = None

    def sentence(self) -> str:
        """Return it in words."""
        number = "" if self.number is None else f"{self.number} of {self.images} images {self.counted}, "
        allowed = "" if self.budget is None else f", allowed are {100 * self.budget:g} %"
        return f"{number}at most {100 * self.bound:.2f} % at a level of {100 * self.level:g} %{allowed}"


@dataclass(frozen=True)
class EditRecord:
    """What a patch tells of one edit.

    Attributes:
        asked: What was asked for, in sentences.
        made_by: The editor or solver and its settings, as JSON holds them.
        measured_on: The images that the outcome was measured on, in words.
        outcome: Figures by their metrics' names.
        classes: Names of the network's classes, by label; none where nobody knew them.
        images: The edited images by name, if these are what was asked.
        labels: The label asked for, for each of them; where no image has a name, for each that was edited.
        harm: What it costs, with all edits before it in the same patch; none where nobody has looked.
        rows: The edit's own rows in layers that have them, numbers among the rows that the patch adds, by the layer's
            name; empty where it has none of its own.
        config: Configuration file of the run that made it, from which it can be made again.
    """

    asked: list[str] = field(default_factory=list)
    made_by: Any = None
    measured_on: str = ""
    outcome: dict[str, float] = field(default_factory=dict)
    classes: list[str] | None = None
    images: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    harm: Harm | None = None
    rows: dict[str, list[int]] = field(default_factory=dict)
    config: str | None = None

    @property
    def editor(self) -> str:
        """The name of the class that made it, or what else it says of that."""
        settings = self.made_by if isinstance(self.made_by, Mapping) else {"editor": self.made_by}
        made_by = settings.get("editor", settings.get("solver"))
        path = made_by.get("class_path") if isinstance(made_by, Mapping) else made_by
        return "not said" if path is None else str(path).partition("(")[0].rpartition(".")[2]

    @property
    def sentence(self) -> str:
        """What was asked, in one line."""
        return "; ".join(self.asked) or "it does not say what was asked"

    def plain(self) -> dict[str, Any]:
        """Return all but the class names as JSON holds it; figures that are no finite numbers are left out."""
        content = {some.name: getattr(self, some.name) for some in fields(self) if some.name != "classes"}
        content["outcome"] = {name: float(value) for name, value in self.outcome.items() if math.isfinite(value)}
        content["harm"] = None if self.harm is None else self.harm._asdict()
        return content

    @classmethod
    def of_plain(cls, content: Any, classes: list[str] | None = None) -> "EditRecord":
        """Return the record that :meth:`plain` has written.

        Raises:
            ValueError: If it is none: a field is missing, unknown or of another type.
        """
        names = {some.name for some in fields(cls)} - {"classes"}
        if not isinstance(content, dict) or set(content) != names:
            raise ValueError("fields are missing or unknown")
        harm, rows, config = content["harm"], content["rows"], content["config"]
        right = (
            _texts(content["asked"])
            and _texts(content["images"])
            and isinstance(content["measured_on"], str)
            and isinstance(content["outcome"], dict)
            and all(_is_number(some) for some in content["outcome"].values())
            and _wholes(content["labels"])
            and (not content["images"] or len(content["labels"]) in (0, len(content["images"])))
            and isinstance(rows, dict)
            and all(_wholes(some) for some in rows.values())
            and (config is None or isinstance(config, str))
            and (classes is None or _texts(classes))
        )
        if not right:
            raise ValueError("a field is of another type")
        return cls(**{**content, "harm": None if harm is None else _harm(harm), "classes": classes})

    @classmethod
    def of_format_1(cls, text: str, path: Any) -> "EditRecord":
        """Read the record of a patch of format 1, from JSON.

        Raises:
            UserError: If it is no record.
        """
        try:
            content = parse_json(text, path)
            classes = content.pop("classes", None)
            if set(content) != {"asked", "made_by", "measured_on", "outcome"}:
                raise ValueError("fields are missing or unknown")
            empty = cls().plain()
            return cls.of_plain({**empty, **content}, classes)
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"'{path}' is a damaged edit patch: its record is not what an edit or a rewrite has left"
            ) from error

    def with_rows(self, rows: Mapping[str, list[int]]) -> "EditRecord":
        """Return the record with other rows of its own."""
        return replace(self, rows={name: list(some) for name, some in rows.items()})


def _harm(content: Any) -> Harm:
    if not isinstance(content, dict) or set(content) != set(Harm._fields):
        raise ValueError("harm is not described")
    harm = Harm(**content)
    numbers = (harm.images, harm.bound, harm.level)
    right = (
        harm.counted in ("broken", "changed")
        and all(_is_number(some) for some in numbers)
        and (harm.number is None or _wholes([harm.number]))
        and (harm.budget is None or _is_number(harm.budget))
    )
    if not right:
        raise ValueError("harm is not described")
    return harm


def _texts(some: Any) -> bool:
    return isinstance(some, list) and all(isinstance(text, str) for text in some)


def _wholes(some: Any) -> bool:
    return isinstance(some, list) and all(type(number) is int and 0 <= number < 2**40 for number in some)


def _is_number(some: Any) -> bool:
    return isinstance(some, int | float) and not isinstance(some, bool) and abs(some) < math.inf
