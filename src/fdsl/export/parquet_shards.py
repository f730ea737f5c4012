"""Shards as parquet files, as Hugging Face's package datasets reads them: columns image {bytes, path} and label."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from fdsl.export.shards import Picture

# Pictures of a row group, which a reader takes as a whole.
_GROUP = 1000
# Names of more classes than this would outweigh the pictures of many a shard: the numbers have to do.
_NAMED_CLASSES = 10_000


def write_parquet(file: Path, pictures: Iterable[Picture], suffix: str, classes: Sequence[str]) -> None:
    """Writes a parquet file with the metadata that make its columns an Image and a ClassLabel in `datasets`.

    Args:
        file: to write.
        pictures: of the rows.
        suffix: of the paths beside the bytes.
        classes: their names; those of more than 10,000 are left out.

    Raises:
        ImportError: pyarrow is not installed.
    """
    pyarrow, parquet = _pyarrow()
    few = len(classes) <= _NAMED_CLASSES
    label = {"_type": "ClassLabel", **({"names": list(classes)} if few else {"num_classes": len(classes)})}
    features = {"image": {"_type": "Image"}, "label": label}
    image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema(
        [("image", image), ("label", pyarrow.int64())],
        {"huggingface": json.dumps({"info": {"features": features}})},
    )
    rows = iter(pictures)
    # Through a file of Python's, whose errors have a number.
    with (
        open(file, "wb") as sink,
        parquet.ParquetWriter(
            sink, schema, compression="none", use_dictionary=["label"], write_statistics=["label"]
        ) as writer,
    ):
        while group := list(islice(rows, _GROUP)):
            images = [{"bytes": row.content, "path": row.name + suffix} for row in group]
            columns = [pyarrow.array(images, image), pyarrow.array([row.label for row in group], pyarrow.int64())]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema), row_group_size=_GROUP)


def read_parquet(file: Path) -> Iterator[tuple[str, bytes]]:
    """(path, content) of the pictures in a parquet file.

    Raises:
        ValueError, OSError: it is damaged.
    """
    _, parquet = _pyarrow()
    with parquet.ParquetFile(file) as shard:
        for batch in shard.iter_batches(_GROUP, columns=["image"]):
            for row in batch.column(0):
                image = row.as_py()
                yield image["path"], image["bytes"]


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("parquet needs pyarrow, which is not installed; pip install 'fdsl[parquet]'") from error
    return pyarrow, parquet
