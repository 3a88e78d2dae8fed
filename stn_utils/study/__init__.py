"""Study: a plan of Experiments x seeds -> a JSON line per finished run -> a table."""

from .plan import FOLDER, Study, load, plans
from .records import Record, append, pack, plain, right, to_record, unpack
from .runner import run_missing
from .table import COLUMNS, Contrast, collapse, contrasts, difference, table
from .traces import load_trace
