"""Study: a plan of Experiments x seeds -> one JSON line per finished run -> one table with intervals."""

from .plan import FOLDER, Study, load, plans
from .records import append, pack, to_record, unpack
from .runner import run_missing
from .table import COLUMNS, collapse, difference, paired, table
