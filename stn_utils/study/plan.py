"""A study's plan: read from YAML with every fault named by file and line, before anything runs."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..experiment import Experiment, check_field, explain
from ..names import one_of
from ..spec import Folder
from .records import Record, read
from .table import COLUMNS, MEASURES

FOLDER = Path(__file__).parents[2] / "assets" / "studies"
At = Callable[..., contextlib.AbstractContextManager[None]]
Seeds = Annotated[int, Field(ge=1, le=10_000)]
MOST_LINES = 10_000  # keys of a plan: aliases of aliases would be more than a machine can hold


class Study(BaseModel):
    """A plan (NAME.yaml) and its records (NAME.jsonl), side by side in `folder`.

    rows: {row name: Experiment without its seed}. names: what to call a row in a picture, if not by
    its own name; one name means one network in all studies. contrasts: pairs of rows whose
    difference in `measure` is asked for. primary: whether the first is asked alone, with its power,
    so that Holm's correction covers the others. own_seeds: how many seeds, for the rows that ask
    for other than `seeds`. columns: what its table shows.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    folder: Path = FOLDER
    question: str
    cost: str
    seeds: Seeds
    first_seed: int = Field(1000, ge=0)  # those below are for looking around; a study's are fresh
    measure: Literal[tuple(MEASURES)] = "test_top1"
    columns: list[Literal[tuple(COLUMNS)]] = ["top1", "lowest", "parameters"]
    contrasts: list[tuple[str, str]] = []
    primary: bool = False
    rows: dict[str, Experiment] = Field(min_length=1)
    own_seeds: dict[str, Seeds] = {}
    names: dict[str, str] = {}

    @property
    def path(self) -> Path:
        """The file of its records."""
        return self.folder / f"{self.name}.jsonl"

    @property
    def unfinished(self) -> Path:
        """Where runners keep their locks and the Runs they are at; git does not see it."""
        return self.folder / ".unfinished" / self.name

    def lines(self) -> list[Record]:
        """All whole lines of the records' file. A last line that a kill cut short is passed over.

        Raises ValueError, naming the line, for one that is no record.
        """
        found: list[Record] = []
        lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        for number, line in enumerate(lines, 1):
            try:
                found += [read(line)] if line.endswith(b"\n") and line.strip() else []
            except ValueError as error:
                why = explain(error).rstrip(".")
                raise ValueError(f"{self.path}, line {number}: not a record ({why}).") from None
        return found

    def records(self) -> list[Record]:
        """The finished runs of this plan, each once: those whose Experiment is still the plan's."""
        fitting = [record for record in self.lines() if not self._mismatch(record)]
        return list({(record["row"], record["seed"]): record for record in fitting}.values())

    def mismatched(self) -> list[str]:
        """What keeps records out, one text each.

        A row has left the plan, or its Experiment was changed.
        """
        reasons = [(record, self._mismatch(record)) for record in self.lines()]
        return [f"{r['row']}, seed {r['seed']}: {why}" for r, why in reasons if why]

    def _mismatch(self, record):
        row = self.rows.get(record["row"])
        if row is None:
            return "no such row in the plan"
        try:
            there = Experiment(**record["experiment"])
        except ValueError as error:
            return explain(error)
        here = row.replace(seed=record["seed"]).model_dump()
        differ = {k: v for k, v in there.model_dump().items() if v != here[k]}
        texts = [f"{k}: {v!r} in the record, {here[k]!r} in the plan" for k, v in differ.items()]
        return "; ".join(texts)

    def done(self) -> set[tuple[str, int]]:
        """The (row, seed) pairs that have a record."""
        return {(record["row"], record["seed"]) for record in self.records()}

    def missing(
        self,
        rows: list[str] | None = None,
        seeds: int | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> list[tuple[str, int]]:
        """The (row, seed) pairs that have no record yet, seed by seed.

        seeds: how many, default the plan's. shard: (rank, ranks), only every ranks-th pair of the
        plan, from rank on, whatever is done already.
        """
        rank, ranks = shard
        if not 0 <= rank < ranks:
            array = f"in a SLURM array --array=0-{ranks - 1}"
            raise ValueError(f"rank {rank} of {ranks}: ranks count from 0, {array}.")
        rows = [one_of("row", row, list(self.rows)) for row in rows or self.rows]
        count = {row: seeds or self.own_seeds.get(row, self.seeds) for row in rows}
        turns = range(max(count.values()))
        wanted = [(row, self.first_seed + i) for i in turns for row in rows if i < count[row]]
        done = self.done()
        return [pair for pair in wanted[rank::ranks] if pair not in done]


def plans(folder: Folder = FOLDER) -> list[str]:
    """Names of the studies that have a plan."""
    return sorted(path.stem for path in Path(folder).glob("*.yaml"))


class _Loader(yaml.SafeLoader):
    """PyYAML's, with the line of a value that is not what its tag says."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            problem = f"a value that cannot be read ({type(error).__name__})"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from None


def _lines(path, node, keys=(), lines=None):
    """The line of every key in a YAML file, {keys down to it: line}."""
    lines = {} if lines is None else lines
    if len(lines) > MOST_LINES or len(keys) > 20:
        raise ValueError(f"{path}, line {node.start_mark.line + 1}: nested too deep, or too long.")
    if isinstance(node, yaml.SequenceNode):
        lines |= {(*keys, i): child.start_mark.line + 1 for i, child in enumerate(node.value)}
    elif isinstance(node, yaml.MappingNode):
        own = set()
        merged_first = sorted(node.value, key=lambda pair: pair[0].value != "<<")
        for key, child in merged_first:  # what stands here wins
            if not isinstance(key, yaml.ScalarNode):
                continue  # no key of ours; PyYAML says so
            name, line = key.value, key.start_mark.line + 1
            if name in own:
                twice = f"{name!r} stands twice, first in line {lines[*keys, name]}"
                raise ValueError(f"{path}, line {line}: {twice}.")
            own.add(name)
            lines[*keys, name] = line
            _lines(path, child, keys if name == "<<" else (*keys, name), lines)
    return lines


def read_yaml(path: Path) -> tuple[dict[str, Any], At]:
    """The file's content, and `at(*keys)`.

    That is a context in which a ValueError gets the file and the keys' line.
    """
    text = path.read_bytes()
    try:
        lines = _lines(path, yaml.compose(text, _Loader))
        content = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{path}, line {line}: {error.problem}.") from None
    except RecursionError:
        raise ValueError(f"{path}: nested too deep.") from None
    except yaml.reader.ReaderError as error:
        line = text.count(b"\n", 0, error.position) + 1
        wrong = f"character {error.character:#x} is not allowed in YAML"
        raise ValueError(f"{path}, line {line}: {wrong}.") from None
    if not isinstance(content, dict):
        expected = f"expected fields and values, one a line, got {content or 'nothing'}"
        raise ValueError(f"{path}, line 1: {expected}.")

    @contextlib.contextmanager
    def at(*keys):
        try:
            yield
        except ValueError as error:
            while keys and keys not in lines:
                keys = keys[:-1]
            raise ValueError(f"{path}, line {lines.get(keys, 1)}: {error}") from None

    return content, at


def read_experiment(
    fields: Mapping[str, Any],
    at: At,
    where: Callable[[str], tuple[str, ...]] = lambda field: (),
    whole: bool = True,
) -> Experiment | None:
    """The Experiment of a YAML file's fields, a fault named with its line.

    at: as `read_yaml` has it; where: its keys. whole=False: fields that do not go together are no
    fault of the file, for more will come; None then.
    """
    for field, value in fields.items():
        with at(*where(field), field):
            check_field(field, value)
    try:
        return Experiment(**fields)
    except ValidationError as error:
        if not (loc := error.errors()[0]["loc"]) and not whole:
            return None
        loc = loc or (explain(error).partition("=")[0],)  # so begins what does not go together
        with at(*where(str(loc[0])), *loc):
            raise ValueError(explain(error)) from None


def _row(row, fields, common, at):
    """The Experiment of a row: its own fields win over the common ones."""
    fields = {field: value for field, value in fields.items() if field != "seeds"}
    shared = common.keys() - fields.keys()

    def where(field):
        return ("common",) if field in shared else ("rows", row)

    return read_experiment({**common, **fields}, at, where)


def load(name: str, folder: Folder = FOLDER) -> Study:
    """Read a study's plan.

    Raises ValueError, naming file and line, for a field or value that is wrong or there twice.
    """
    one_of("study", name, plans(folder))
    path = Path(folder) / f"{name}.yaml"
    plan, at = read_yaml(path)
    content = dict(plan)
    known = {*Study.model_fields, "common"} - {"name", "folder", "own_seeds"}
    for field in content:
        with at(field):
            one_of("field", field, sorted(known))
    common, rows = content.pop("common", {}), content.get("rows", {})

    def expect_fields(value, *keys):
        with at(*keys):
            if not isinstance(value, dict):
                raise ValueError(f"expected fields and values, one a line, got {value!r}.")

    expect_fields(common, "common")
    expect_fields(rows, "rows")
    for row, fields in rows.items():
        expect_fields(fields, "rows", row)
        with at("rows", row):
            if isinstance(row, str) and (Path(row).name != row or row in ("", "..")):
                raise ValueError(f"a row's name is that of a folder, too; it cannot be {row!r}.")
    own = {row: fields["seeds"] for row, fields in rows.items() if "seeds" in fields}
    content["own_seeds"] = own
    content["rows"] = {row: _row(row, fields, common, at) for row, fields in rows.items()}
    try:
        study = Study(**content, name=name, folder=Path(folder))
    except ValidationError as error:
        kind, *rest = error.errors()[0]["loc"]
        with at(*(["rows", rest[0], "seeds"] if kind == "own_seeds" else [kind, *rest])):
            raise ValueError(explain(error)) from None
    for row in study.names:
        with at("names", row):
            one_of("row in names", row, list(rows))
    for i, pair in enumerate(study.contrasts):
        for row in pair:
            with at("contrasts", i):
                one_of("row in a contrast", row, list(rows))
    return study
