"""``recbole-hns convert``: the field's data formats to RecBole's, with a ready split."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from recbole_hns.cli.options import Command, Given, options
from recbole_hns.convert.options import PARAMETERS

OPTIONS = {
    **options(
        format=(
            Literal["adjacency", "sequence", "mat", "csv", "jsonl", "parquet"] | None,
            Field(None, description="of the files, see above; unset is what the suffix tells"),
        ),
        input=(str | None, Field(None, description="the file, of all but adjacency")),
        train=(str | None, Field(None, description="training part, of all but sequence and mat")),
        valid=(str | None, Field(None, description="validation part, where there is one")),
        test=(str | None, Field(None, description="test part, of all but sequence and mat")),
    ),
    **PARAMETERS,
    **options(
        output=(
            str | None,
            Field(None, description="new directory for the files, whose name is the data set's"),
        ),
    ),
}

HELP = """\
Convert data to RecBole's atomic files NAME.train.inter, NAME.valid.inter and NAME.test.inter, which
--dataset=NAME then reads. --format is one of

\b
  csv        lines of columns, separated by tabs, commas, semicolons, :: or spaces. Without a header
             they are user, item, rating and timestamp, in this order. Of a ready split whose files
             have two columns, other names in the header are user and item, in this order
  jsonl      lines of JSON objects, which have the keys of the first one
  parquet    a file, or a folder of parts
  adjacency  lines "user item item ...", whole numbers, in a file for each part
  sequence   lines "user item item ...", whole numbers, in one file, the items in order of time
  mat        MATLAB sparse matrix named data, users x items

and is told by the suffixes .csv, .tsv, .inter (RecBole's), .jsonl, .ndjson, .parquet and .mat.
All but parquet and mat may be compressed by gzip. In the first three, names say which columns
are user, item, rating and timestamp, the usual ones (userId, customer, movie_id, sku, stars,
when, event_time, ...) or those of --user_column and so on; further columns are left out. Ids are
text or whole numbers. Times are numbers, kept as they are, or dates with or without a time of
day and a time zone (ISO 8601), which become seconds since 1970; without a time zone they are
UTC. The data is in

\b
  --input=FILE                             one file, of all but adjacency
  --train=FILE [--valid=FILE] --test=FILE  a ready split, of all but sequence and mat

A split that is ready is kept, but for the part of the training part that becomes the validation
part: a tenth of each user's interactions, rounded, or, of all but adjacency, rounded down to at
least one, as IR-Benchmark has it. One file is split by --split:

\b
  random      a fifth of each user's interactions, rounded, is the test part
  temporal    the last fifth of all interactions is the test part, of those before the last tenth
              the validation part; interactions of the same time stay together, in the later part
  leave-last  the last interaction of each user is the test part, the one before the validation
              part; of those of the same time the last one is that which is last in the file

Of a pair that is there twice the first is kept, with the latter two the first in time, and it is
no test pair if it was trained with. A user with one interaction has it in the training part, but
with --split=temporal. The split is named in NAME.split.yaml, which runs repeat.
"""


def run(given: Given) -> None:
    """Convert."""
    # NumPy takes a while to import
    from recbole_hns.convert.conversion import convert

    print(convert(**{key: given.values[key] for key in given.named if key != "quiet"}))


COMMAND = Command("convert", run, "[--OPTION=VALUE ...]", HELP, {"Options": OPTIONS})
