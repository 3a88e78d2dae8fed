"""A study's plan: read from YAML with every fault named by file, row and field before it runs."""

import contextlib
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..experiment import Experiment, check_each, explain
from ..names import one_of
from ..spec import Folder
from .records import Record, read
from .table import COLUMNS, MEASURES

FOLDER = Path(__file__).parents[2] / "assets" / "studies"
Row = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]  # a folder is named after it, too
Seeds = Annotated[int, Field(ge=1, le=10_000)]


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
    rows: dict[Row, Experiment] = Field(min_length=1)
    own_seeds: dict[str, Seeds] = {}
    names: dict[str, str] = {}

    @model_validator(mode="after")
    def _rows_are_there(self):
        for field, rows in ("names", self.names), ("contrasts", sum(self.contrasts, ())):
            for row in rows:
                one_of(f"row in {field}", row, self.rows)
        return self

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
        found = {(r["row"], r["seed"]): r for r in self.lines() if not self._mismatch(r)}
        return list(found.values())

    def by_row(self) -> dict[str, dict[int, Record]]:
        """The same, {row: {seed: record}}; every row is there."""
        found: dict[str, dict[int, Record]] = {row: {} for row in self.rows}
        for record in self.records():
            found[record["row"]][record["seed"]] = record
        return found

    def mismatched(self) -> list[str]:
        """What keeps records out, one text each.

        A row has left the plan, or its Experiment was changed.
        """
        return [
            f"{record['row']}, seed {record['seed']}: {why}"
            for record in self.lines()
            if (why := self._mismatch(record))
        ]

    def _mismatch(self, record):
        row = self.rows.get(record["row"])
        if row is None:
            return "no such row in the plan"
        try:
            there = Experiment(**record["experiment"])
        except ValueError as error:
            return explain(error)
        here = row.replace(seed=record["seed"]).model_dump()
        return "; ".join(
            f"{name}: {value!r} in the record, {here[name]!r} in the plan"
            for name, value in there.model_dump().items()
            if value != here[name]
        )

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
        rows = [one_of("row", row, self.rows) for row in rows or self.rows]
        count = {row: seeds or self.own_seeds.get(row, self.seeds) for row in rows}
        turns = range(max(count.values()))
        wanted = [(row, self.first_seed + i) for i in turns for row in rows if i < count[row]]
        done = self.done()
        return [pair for pair in wanted[rank::ranks] if pair not in done]


def plans(folder: Folder = FOLDER) -> list[str]:
    """Names of the studies that have a plan."""
    return sorted(path.stem for path in Path(folder).glob("*.yaml"))


class _Loader(yaml.SafeLoader):
    """PyYAML's, which refuses a field that stands twice, where the last one would win."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = [str(key.value) for key, _ in node.value]
        for i, (key, _) in enumerate(node.value):
            if names[i] in names[:i]:
                problem = f"{names[i]!r} stands twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        return node


@contextlib.contextmanager
def at(place: object) -> Iterator[None]:
    """A context in which a ValueError says at which place of which file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {explain(error)}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The fields of a YAML file. Raises ValueError, naming it, for anything else."""
    try:
        content = yaml.load(path.read_bytes(), _Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{path}, line {line}: {error.problem}.") from None
    except Exception as error:  # whatever PyYAML raises at a value that it cannot make
        why = str(error).partition("\n")[0]
        raise ValueError(f"{path}: a value that cannot be read ({why}).") from None
    with at(path):
        return _fields(content)


def _fields(value):
    if not isinstance(value, dict):
        got = reprlib.repr(value)[:100] if value else "nothing"
        raise ValueError(f"expected fields and values, one a line, got {got}.")
    return value


def load(name: str, folder: Folder = FOLDER) -> Study:
    """Read a study's plan.

    Raises ValueError, naming file, row and field, for one that is wrong or there twice.
    """
    one_of("study", name, plans(folder))
    path = Path(folder) / f"{name}.yaml"
    plan = read_yaml(path)
    known = {*Study.model_fields, "common"} - {"name", "folder", "own_seeds"}
    rows, own_seeds = {}, {}
    with at(path):
        for field in plan:
            one_of("field", field, sorted(known))
        with at("common"):
            common = _fields(plan.pop("common", {}))
            check_each(common)
        with at("rows"):
            own = _fields(plan.pop("rows", {}))
        for row in own:
            with at(f"rows.{row}"):
                fields = {**common, **_fields(own[row])}  # its own win
                if "seeds" in fields:
                    own_seeds[row] = fields.pop("seeds")
                rows[row] = Experiment.model_validate(fields)
        return Study(**plan, rows=rows, own_seeds=own_seeds, name=name, folder=Path(folder))
