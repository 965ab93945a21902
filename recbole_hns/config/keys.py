"""The keys of a config that do not belong to one sampler, loss or model, in one table.

Keys that are not in it are those of samplers and losses, which declare them, and RecBole's others,
which need no check of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from recbole_hns.parameters import Parameter
from recbole_hns.protocol import Protocol

Text = Annotated[str, Field(min_length=1)]
BatchSize = Annotated[int, Field(gt=0, lt=2**63)]
DecimalPlace = Annotated[int, Field(ge=0, le=100)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
WEIGHT = Annotated[float, Field(ge=0)]
Names = list[Text]
Similarity = Literal["inner", "cosine"]

#: Jobs that set keys themselves, whatever a user gives.
TRIALS = frozenset({"trial", "benchmark"})


@dataclass(frozen=True)
class Key:
    """A key of the config.

    Attributes:
        name: the key.
        annotation: its type and bounds; None leaves the check to RecBole.
        resumable: whether a resumed run may have another value.
        searchable: whether trials of one sweep may differ in it. Keys of the data and the
            evaluation may not: their trials would not be comparable.
        names_runs: whether it says what a run trained, and so can tell runs apart in a legend; not
            where it worked or how it was watched.
        derived: whether RecBole computes it from others, so that giving it again is a mistake.
        instead: what to set in place of a key of RecBole's that a sampler replaces, or that only
            RecBole itself sets.
        forced_in: the jobs, ``trial`` of a sweep or ``benchmark``, that set it to ``forced``: they
            prepare the data themselves, keep nothing and have no terminal.
        forced: see there.
    """

    name: str
    annotation: Any = None
    resumable: bool = False
    searchable: bool = False
    names_runs: bool = True
    derived: bool = False
    instead: str = ""
    forced_in: frozenset[str] = frozenset()
    forced: Any = None

    @cached_property
    def parameter(self) -> Parameter:
        """What checks a value."""
        return Parameter(self.name, self.annotation, None)

    def check(self, value: Any, default: Any = None) -> Any:
        """``value``, converted where that loses nothing; as it is where RecBole checks it.

        Args:
            value: the value.
            default: what RecBole or the model has; a few models have several weights in place of
                one.

        Raises:
            UserError: if the value is not allowed.
        """
        if self.annotation is WEIGHT and isinstance(default, list):
            several = Annotated[
                list[WEIGHT], Field(min_length=len(default), max_length=len(default))
            ]
            return Parameter(self.name, several, None).check(value)
        return value if self.annotation is None else self.parameter.check(value)


TABLE = (
    # what is trained
    Key("similarity", Similarity, searchable=True),
    Key("candidate_exclude", Literal["target", "sequence", "history"], searchable=True),
    Key("train_positions", Literal["last", "all"]),
    Key("eval_similarity", Literal["trained", "inner", "cosine"], searchable=True),
    Key("loss", searchable=True),
    Key("seed", Annotated[int, Field(ge=0, lt=2**32)]),
    Key("epochs", PositiveInt, resumable=True, searchable=True),
    Key("train_batch_size", BatchSize, searchable=True),
    Key(
        "learner",
        Literal["adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam", "rowwise_adagrad"],
        searchable=True,
    ),
    Key("learning_rate", Annotated[float, Field(gt=0)], searchable=True),
    Key("lr_decay", Annotated[float, Field(gt=0, le=1)], searchable=True),
    Key("lr_decay_step", PositiveInt, searchable=True),
    Key("weight_decay", Annotated[float, Field(ge=0)], searchable=True),
    Key("clip_grad_norm", dict[str, float], searchable=True),
    Key("embedding_std", Annotated[float, Field(gt=0)], searchable=True),
    Key("embedding_size", Annotated[int, Field(gt=0, le=2**16)]),
    Key("n_layers", Annotated[int, Field(ge=0, le=1000)]),
    Key("reg_weight", WEIGHT),
    Key("require_pow", bool, searchable=True),
    Key("node_dropout", Dropout),
    Key("message_dropout", Dropout),
    Key("drop_ratio", Dropout),
    Key("dropout_prob", Dropout),
    Key("n_factors", PositiveInt),
    Key("n_iterations", PositiveInt),
    Key("shuffle", bool),
    Key("enable_amp", bool),
    Key("reproducibility", bool),
    # the data
    Key("data_path", Text, resumable=True, names_runs=False),
    Key("benchmark_filename", Annotated[list[Text], Field(min_length=2)]),
    Key(
        "transform",
        Literal[
            "mask_itemseq", "inverse_itemseq", "crop_itemseq", "reorder_itemseq", "user_defined"
        ],
    ),
    Key("NEG_PREFIX", str),
    Key("LIST_SUFFIX", Text),
    Key("ITEM_LIST_LENGTH_FIELD", Text),
    Key("MAX_ITEM_LIST_LENGTH", PositiveInt),
    Key("load_col", dict[Text, Names | Literal["*"]] | None),
    Key("unload_col", dict[Text, Names]),
    Key("unused_col", dict[Text, Names]),
    Key("additional_feat_suffix", Text | Names),
    Key("seq_len", dict[Text, PositiveInt]),
    Key("threshold", Annotated[dict[Text, float], Field(min_length=1, max_length=1)]),
    Key("val_interval", dict[Text, Any]),
    Key("rm_dup_inter", Literal["first", "last"]),
    Key("filter_inter_by_user_or_item", bool),
    Key("numerical_features", Names),
    Key("normalize_field", Names),
    Key("normalize_all", bool),
    Key("discretization", dict[Text, dict[Text, Any]]),
    Key("preload_weight", dict[Text, Text]),
    Key("alias_of_user_id", Names),
    Key("alias_of_item_id", Names),
    Key("alias_of_entity_id", Names),
    Key("alias_of_relation_id", Names),
    Key("dataset_save_path", Text, forced_in=frozenset({"benchmark"})),
    Key("dataloaders_save_path", Text, forced_in=TRIALS),
    Key("save_dataset", forced_in=TRIALS, forced=False),
    Key("save_dataloaders", forced_in=TRIALS, forced=False),
    # evaluation and the choice of the epoch
    Key("protocol", Protocol),
    Key("metrics", Text | Annotated[list[Text], Field(min_length=1)], names_runs=False),
    Key("topk", PositiveInt | Annotated[list[PositiveInt], Field(min_length=1)], names_runs=False),
    Key("valid_metric", Text, names_runs=False),
    Key("metric_decimal_place", DecimalPlace, names_runs=False),
    Key("user_metrics", bool, names_runs=False),
    Key("eval_step", NonNegativeInt, names_runs=False),
    Key("eval_users", PositiveInt, names_runs=False),
    Key("stopping_step", NonNegativeInt, resumable=True, searchable=True, names_runs=False),
    Key("eval_batch_size", BatchSize, resumable=True, names_runs=False),
    # where a run works and how it is watched
    Key("step_memory", PositiveInt),
    Key("worker", NonNegativeInt, resumable=True, names_runs=False),
    Key("use_gpu", bool, resumable=True, names_runs=False),
    Key("gpu_id", resumable=True, names_runs=False),
    Key("checkpoint_dir", Text, names_runs=False),
    Key("loss_decimal_place", DecimalPlace, names_runs=False),
    Key("state", Text, resumable=True, names_runs=False),
    Key("show_progress", bool, resumable=True, names_runs=False, forced_in=TRIALS, forced=False),
    Key(
        "log_wandb",
        bool,
        resumable=True,
        names_runs=False,
        forced_in=frozenset({"benchmark"}),
        forced=False,
    ),
    Key("wandb_project", resumable=True, names_runs=False),
    # what a sampler replaces
    Key(
        "train_neg_sample_args",
        derived=True,
        instead="the sampler draws the negatives; set sampler, candidate_num and "
        "candidate_distribution instead",
    ),
    Key(
        "neg_sampling",
        instead="the sampler draws the negatives; set sampler and candidate_num instead",
    ),
    Key(
        "training_neg_sample_num",
        instead="the sampler draws the negatives; set candidate_num instead",
    ),
    # what RecBole derives
    Key("valid_neg_sample_args", derived=True, instead="follows from the mode of eval_args"),
    Key("test_neg_sample_args", derived=True, instead="follows from the mode of eval_args"),
    Key("MODEL_TYPE", derived=True, instead="follows from model"),
    Key("MODEL_INPUT_TYPE", derived=True, instead="follows from model"),
    Key("eval_type", derived=True, instead="follows from metrics"),
    Key(
        "data_split",
        derived=True,
        names_runs=False,
        instead="follows from the data set's files, which convert --split makes, or from eval_args",
    ),
    Key("device", derived=True, instead="set use_gpu=False for the CPU, or gpu_id, instead"),
    Key("single_spec", derived=True, instead="follows from num_workers; leave it out"),
    Key("local_rank", derived=True, instead="follows from num_workers; leave it out"),
    Key("valid_metric_bigger", derived=True, names_runs=False),
)

#: The table by name.
KEYS = {key.name: key for key in TABLE}

#: A key that is not in the table has no check and no part in any job.
OTHER = Key("")


def key_of(name: str) -> Key:
    """What the table says of a key; of one that is not in it, what holds for all others."""
    return KEYS.get(name, OTHER)


def forced(job: str) -> dict[str, Any]:
    """The keys that a job, ``trial`` or ``benchmark``, sets whatever a user gives."""
    return {key.name: key.forced for key in TABLE if job in key.forced_in}
