"""What a settings class looks like in YAML: a section with a key for each of its options.

Sections are made from the declarations (kinds, defaults, help), so a new option, or a new class
of settings, can be written in YAML, completed and checked the day it exists.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Optional,
    cast,
    get_args,
    get_origin,
)
from typing import get_type_hints as hints_of

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    create_model,
)

from reducible_train.settings import fields as kinds
from reducible_train.settings.base import Nested, Settings
from reducible_train.settings.checks import Range
from reducible_train.settings.fields import Kind, fields_of, help_of, kind_of
from reducible_train.settings.goals import Goal
from reducible_train.settings.measures.base import ShapeKind
from reducible_train.settings.schedules import Schedule
from reducible_train.settings.schedules.base import ScheduleKind
from reducible_train.settings.search_space import Each, Sweep, Words

Forms = Mapping[type[Kind], Callable[[Any], Any]]
TARGET = "Target"  # a number or a schedule, which `schedules.target_forms` tells


def _described(schema: dict[str, Any], section: type[Section]) -> None:
    """The help of a section, which is no docstring: Python may run without any."""
    schema["description"] = section.help
    if section.one_of:
        schema["oneOf"] = list(section.one_of)


class Section(BaseModel):
    """A mapping of the file: nothing unknown, nothing converted.

    Attributes:
        help: What it is for, in a sentence.
        one_of: Conditions of which exactly one holds, as in a JSON schema.
        tag: Its mark in a union, for pydantic.
        made: The settings class that it is made from, where there is one.
        options: By key, what an option may be, of one that has keys of other classes as well.
    """

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        json_schema_extra=_described,
    )
    help: ClassVar[str] = ""
    one_of: ClassVar[Sequence[Mapping[str, Any]]] = ()
    tag: ClassVar[str] = ""
    made: ClassVar[type[Settings] | None] = None
    options: ClassVar[Mapping[str, Kind]] = {}

    def __init_subclass__(cls, help: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.help, cls.__doc__ = help or cls.help, help or cls.__doc__

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Nothing more than `__init_subclass__`, which is given the same."""

    if TYPE_CHECKING:  # its keys are those of what it is made from

        def __init__(self, **keys: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

    def build(self) -> Any:
        """The settings themselves."""
        names = fields_of(cast(type, self.made))
        return cast(Any, self.made)(**{name: built(getattr(self, name)) for name in names})


def built(value: Any) -> Any:
    """A section as its settings, in lists too; a whole number as `int`."""
    if isinstance(value, Section):
        return value.build()
    if isinstance(value, list):
        return tuple(map(built, value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


def section_of(
    made: type[Settings],
    called: str = "",
    *,
    forms: Forms | None = None,
    without: Sequence[str] = (),
    **more: Any,
) -> Any:
    """The section of a settings class.

    Args:
        made: The class.
        called: Its name in the schema; left out, it is that of the class.
        forms: Types, for pydantic, of kinds of options that only this class has.
        without: Options that are no keys of it.
        **more: Keys that it has besides, before its options, as pydantic takes fields.
    """
    hints = hints_of(made)
    content = dict(more)
    for key, item in fields_of(made).items():
        if key in without:
            continue
        kind = kind_of(item)
        form = form_of_hint(hints[key]) if type(kind) is Kind else form_of(kind, forms or {})
        default = ... if item.default is MISSING else _default_of(form, item.default)
        form = Optional[form] if default is None else form  # noqa: UP045 (it may be a name)
        content[key] = (form, Field(default, description=help_of(item)))
    called = called or f"{made.__name__.removesuffix('Settings')}Section"
    section = create_model(called, __base__=Section, **content)
    section.made, section.help = made, made.help
    if made.one_of is not None:
        section.one_of = [{"required": [name]} for name in made.one_of.names]
    return section


def _default_of(form: Any, default: Any) -> Any:
    """A default as a file would say it: a mapping, the name of a measure, or nothing."""
    mapping = inspect.isclass(form) and issubclass(form, Section)
    if isinstance(default, Settings):
        options = {name: getattr(default, name) for name in fields_of(type(default))}
        return form(**options) if mapping else str(default)
    if isinstance(default, tuple):
        return None if mapping else list(default)
    return default


def sections_in(annotation: Any) -> Iterator[type[Section]]:
    """Every section named in an annotation."""
    annotation = getattr(annotation, "__value__", annotation)  # a named alias stands for its value
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from sections_in(inner)


def form_of(kind: Kind, forms: Forms | None = None) -> Any:
    """The type, for pydantic, of what an option may be; `forms` knows more kinds than `FORMS`."""
    known = [*(forms or {}).items(), *FORMS.items()]
    return next(form(kind) for of, form in known if isinstance(kind, of))


def form_of_hint(hint: Any) -> Any:
    """The same by the annotation of a field that is declared in no other way."""
    origin: Any = get_origin(hint)
    inner = get_args(hint)
    if inspect.isclass(hint) and issubclass(hint, Schedule):
        return TARGET
    if inspect.isclass(origin) and origin is not Literal and issubclass(origin, tuple | list):
        return list[form_of_hint(inner[0])]  # type: ignore[misc]
    return hint


def _bounded(within: Range) -> Any:
    low = {"gt" if within.above else "ge": within.least} if within.least > -float("inf") else {}
    high = {"lt" if within.below else "le": within.most} if within.most < float("inf") else {}
    return Annotated[float, Field(**cast(Mapping[str, Any], low | high))]


class SeveralSection(Section, help="One for each of some names."):
    """A mapping of which each key has the same form."""

    tag: ClassVar[str] = "<several>"

    def build(self) -> dict[str, Any]:
        """By name what was given for it."""
        return {name: built(value) for name, value in self if value is not None}


def several_section(
    called: str,
    help: str,
    forms: Mapping[str, tuple[Any, str]],
    base: type[SeveralSection] = SeveralSection,
) -> Any:
    """A section of some names, by each its form and what it is; each may be left out."""
    content: Any = {
        name: (form, Field(default_factory=lambda: None, description=told))
        for name, (form, told) in forms.items()
    }
    return create_model(called, __base__=base, __cls_kwargs__={"help": help}, **content)


def _one_or_list(one: Any) -> Any:
    """A value, or a list of some to choose from."""
    return Annotated[
        Annotated[one, Tag("<one>")]
        | Annotated[list[one], Tag("<list>"), Field(json_schema_extra={"minItems": 1})],
        Discriminator(lambda value: "<list>" if isinstance(value, list | tuple) else "<one>"),
    ]


def _sweep(kind: Sweep) -> Any:
    return _one_or_list(Annotated[int, Field(ge=1)] if kind.whole else _bounded(kind.within))


def words(names: Sequence[str]) -> Any:
    """The form of some words; any text where there are no names."""
    return _one_or_list(Literal[tuple(names)] if names else _TEXT)


def _each_form(value: Any) -> str:
    return "<several>" if isinstance(value, Mapping | SeveralSection) else "<alone>"


def _each(kind: Each) -> Any:
    """A form for each name, known or not; or one alone."""
    one = form_of(kind.of)
    by_name: Any = dict[_TEXT, one]  # type: ignore[valid-type]
    if names := kind.names():
        by_name = several_section(
            f"Each{kind.what.title()}Section",
            f"What is searched for each {kind.what}; all are met.",
            {each: (one, f"By {each}.") for each in names},
        )
    if not kind.alone:
        return by_name
    return Annotated[
        Annotated[one, Tag("<alone>")] | Annotated[by_name, Tag("<several>")],
        Discriminator(_each_form),
    ]


Shape = list[Annotated[int, Field(ge=1)]]


def _shape_form(value: Any) -> str:
    if isinstance(value, Mapping):
        return "<by name>"
    several = isinstance(value, list) and any(isinstance(each, list) for each in value)
    return "<shapes>" if several else "<shape>"


InputShape = Annotated[
    Annotated[Shape, Tag("<shape>")]
    | Annotated[list[Shape], Tag("<shapes>")]
    | Annotated[dict[str, Shape], Tag("<by name>")],
    Discriminator(_shape_form),
]

# Of a number that is not negative, the settings say so themselves; editors are told as well.
_NOT_NEGATIVE = Annotated[float, Field(json_schema_extra={"minimum": 0})]
_TEXT = Annotated[str, Field(min_length=1)]
PATH = Annotated[_TEXT, AfterValidator(os.path.expanduser)]  # no shell does it in a file
FORMS: Forms = {
    kinds.Number: lambda kind: _bounded(kind.within),
    kinds.Count: lambda kind: Annotated[int, Field(ge=kind.least)],
    kinds.Time: lambda kind: _NOT_NEGATIVE,
    kinds.Value: lambda kind: _NOT_NEGATIVE,
    kinds.Text: lambda kind: _TEXT,
    kinds.PathName: lambda kind: PATH,
    kinds.Choice: lambda kind: Literal[kind.options],
    kinds.Truth: lambda kind: bool,
    kinds.Items: lambda kind: list[form_of(kind.of)],  # type: ignore[misc]
    Nested: lambda kind: section_of(kind.made),
    ShapeKind: lambda kind: InputShape,
    ScheduleKind: lambda kind: TARGET,
    Sweep: _sweep,
    Words: lambda kind: words(kind.options),
    Each: _each,
    Goal: lambda kind: TARGET,
}
