"""Settings: one TOML file, every key of which the environment can override.

Laws:

1. An unknown key is an error that names the nearest known one; a typing error must not become a default.
2. The environment wins over the file: ``GLOAM_KEY``, and ``GLOAM_TABLE__KEY`` for tables. Programs of all roles share
   one environment, so a variable unlike every key is not ours to judge; one that nearly spells a key is an error.
3. An error is one line that names the file (or the variable), the key and what is expected, and never shows the value.
"""

import difflib
import tomllib
import types
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, PlainSerializer, SecretBytes, SecretStr, ValidationError

from console.address import format_duration, parse_duration
from console.errors import CommandError
from console.toml import Entry, Table, toml_document

RESERVED: Final = frozenset({"STATE", "DEBUG", "MASTER_KEY"})
"""Variables that are no settings: where the state is, how errors are shown, and the key that opens the secrets."""

Duration = Annotated[
    timedelta,
    BeforeValidator(lambda value: parse_duration(value) if isinstance(value, str) else value),
    PlainSerializer(format_duration, return_type=str),
]
"""A timedelta written as in ``"10m"``."""

Model = TypeVar("Model", bound=BaseModel)
_LARGEST_FILE: Final = 1024 * 1024
_TABLES: Final[frozenset[Any]] = frozenset({Union, types.UnionType, Annotated})
_TABLES_AND_ARRAYS: Final[frozenset[Any]] = _TABLES | {list, tuple}
_NEAR: Final = 0.8  # difflib's ratio: one or two letters wrong in a key


def load_settings(model: type[Model], path: Path, environ: Mapping[str, str], prefix: str = "GLOAM_") -> Model:
    """The settings of ``path`` (which may be absent) and the environment; :class:`CommandError` for what is wrong."""
    table = _read(path)
    _refuse_unknown(model, table, path, ())
    origins: dict[tuple[str, ...], str] = {}
    for keys, variable in _variables(model, environ, prefix):
        _put(table, keys, _from_environment(model, keys, environ[variable], variable), variable)
        origins[keys] = variable
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise _explained(error, model, path, origins, prefix) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from error
    if len(data) > _LARGEST_FILE:
        raise CommandError(f"{path} is longer than {_LARGEST_FILE} bytes", "name a configuration file")
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CommandError(f"{path} is not TOML: {error}", "correct that place") from error


def _table_of(annotation: Any, through: frozenset[Any] = _TABLES) -> type[BaseModel] | None:
    """The model that a field's table holds, looking through Optional and Annotated (and lists, if ``through`` says)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in through:
        return next((found for each in get_args(annotation) if (found := _table_of(each, through))), None)
    return None


def _key(name: str, model: type[BaseModel]) -> str:
    return model.model_fields[name].alias or name


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """Every key of a model as the file spells it, with its annotation."""
    return {_key(name, model): field.annotation for name, field in model.model_fields.items()}


def _refuse_unknown(model: type[BaseModel], table: Mapping[str, Any], path: Path, at: tuple[str, ...]) -> None:
    known = _fields(model)
    for key, value in table.items():
        if key not in known:
            where = ".".join((*at, key))
            raise CommandError(f"{path} has an unknown key {where}", _nearest(key, list(known)))
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict) and (inner := _table_of(known[key], _TABLES_AND_ARRAYS)):
                _refuse_unknown(inner, each, path, (*at, key))


def _nearest(key: str, known: list[str]) -> str:
    if near := difflib.get_close_matches(key, known, n=1, cutoff=0.5):
        return f"did you mean {near[0]}?"
    return f"remove it; the keys here are {', '.join(known)}"


def _paths(model: type[BaseModel], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, annotation in _fields(model).items():
        yield (*at, key)
        if inner := _table_of(annotation):
            yield from _paths(inner, (*at, key))


def _variables(model: type[BaseModel], environ: Mapping[str, str], prefix: str) -> list[tuple[tuple[str, ...], str]]:
    """The settings the environment overrides and the variables that do, tables before the keys inside them."""
    spelled = {"__".join(keys).upper(): keys for keys in _paths(model)}
    found = []
    for variable in environ:
        rest = variable.removeprefix(prefix)
        if rest == variable or rest in RESERVED:
            continue
        if keys := spelled.get(rest):
            found.append((keys, variable))
        elif near := difflib.get_close_matches(rest, spelled, n=1, cutoff=_NEAR):
            raise CommandError(f"the variable {variable} is no setting", f"did you mean {prefix}{near[0]}?")
    return sorted(found)


def _annotation_at(model: type[BaseModel], keys: tuple[str, ...]) -> Any:
    annotation: Any = model
    for key in keys:
        annotation = _fields(_table_of(annotation) or model)[key]
    return annotation


def _from_environment(model: type[BaseModel], keys: tuple[str, ...], text: str, variable: str) -> object:
    """The value a variable spells: text as it is; lists and tables as in TOML, or a list with commas."""
    annotation = _annotation_at(model, keys)
    kinds = {get_origin(each) or each for each in (annotation, *get_args(annotation))}
    table = _table_of(annotation) is not None or dict in kinds
    if not table and not kinds & {list, tuple, set, frozenset}:
        return text
    if table or text.lstrip().startswith("["):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise CommandError(f"the variable {variable} is not a TOML value", "write it as in the file") from error
    return [part.strip() for part in text.split(",") if part.strip()]


def _put(table: dict[str, Any], keys: tuple[str, ...], value: object, variable: str) -> None:
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise CommandError(f"the variable {variable} overrides part of {key}", f"make {key} a table in the file")
    table[keys[-1]] = value


def _explained(
    error: ValidationError,
    model: type[BaseModel],
    path: Path,
    origins: Mapping[tuple[str, ...], str],
    prefix: str,
) -> CommandError:
    first = error.errors(include_input=False, include_url=False)[0]
    place = first["loc"]
    keys = tuple(str(part) for part in place)
    names = [part for part in place if isinstance(part, str)]
    dotted = ".".join(keys) or "the settings together"
    variable = next((origins[keys[:end]] for end in range(len(keys), 0, -1) if keys[:end] in origins), None)
    described = _description(model, names)
    if first["type"] == "missing":
        also = "__".join(names).upper()
        return CommandError(f"{path} lacks {dotted}{described}", f"add {dotted} to it, or set {prefix}{also}")
    source = f"the variable {variable}" if variable else f"{path}: {dotted}"
    message = first["msg"].removeprefix("Value error, ")
    return CommandError(f"{source} is not right: {message[:1].lower()}{message[1:]}", f"correct it{described}")


def _description(model: type[BaseModel], names: list[str]) -> str:
    """The sentence of the field at ``names``, as " (…)", or nothing."""
    inner: type[BaseModel] | None = model
    for depth, name in enumerate(names):
        field = next((f for n, f in inner.model_fields.items() if _key(n, inner) == name), None) if inner else None
        if field is None:
            return ""
        if depth == len(names) - 1 and field.description:
            return f" ({field.description.rstrip('.')})"
        inner = _table_of(field.annotation)
    return ""


def dump_settings(settings: BaseModel) -> str:
    """TOML for a new configuration file: each key below the sentence its field has; keys without a value commented."""
    return toml_document(_entries(settings).entries)


def _entries(settings: BaseModel) -> Table:
    """The fields in order; values as JSON types, for TOML has the same ones."""
    plain = settings.model_dump(mode="json")
    entries = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, SecretStr | SecretBytes):
            msg = f"{name} is a secret and not for a configuration file"
            raise TypeError(msg)
        content = _entries(value) if isinstance(value, BaseModel) else plain[name]
        entries.append(Entry(_key(name, type(settings)), content, field.description or ""))
    return Table(tuple(entries))
