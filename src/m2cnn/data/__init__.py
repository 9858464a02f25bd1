"""Photographs and what is known of them: manifests, importers, splits, lockbox, prepared pictures. No torch."""

from m2cnn.data.cache import Cached, cache_pictures
from m2cnn.data.imported import Imported, Importer, Published
from m2cnn.data.importers import IMPORTERS, import_dataset
from m2cnn.data.lockbox import lockbox_rows, open_lockbox
from m2cnn.data.manifest import (
    FileProblem,
    Manifest,
    Row,
    check_files,
    in_lockbox,
    read_manifest,
    write_manifest,
)
from m2cnn.data.opening import open_data
from m2cnn.data.pseudo import pseudo_labelled
from m2cnn.data.splits import assign_splits, check_sides, kfold, nested, without_each_source

__all__ = [
    "IMPORTERS",
    "Cached",
    "FileProblem",
    "Imported",
    "Importer",
    "Manifest",
    "Published",
    "Row",
    "assign_splits",
    "cache_pictures",
    "check_files",
    "check_sides",
    "import_dataset",
    "in_lockbox",
    "kfold",
    "lockbox_rows",
    "nested",
    "open_data",
    "open_lockbox",
    "pseudo_labelled",
    "read_manifest",
    "without_each_source",
    "write_manifest",
]
