"""Calibration inputs from a file: token ids as they are, or text through the model's tokenizer.

Decides how a text is cut into sequences, and which files are refused.
"""

from pathlib import Path

import numpy as np
import torch

from samoyeds_gen.errors import ModelError
from samoyeds_gen.formats.arrays import Array
from samoyeds_gen.moe.skeleton import transformers

BATCH_TOKENS = 1 << 14
"""Tokens run through a layer at a time."""


def read_samples(
    path: "str | Path", model_dir: "str | Path", *, sequences: int = 128, length: int = 2048
) -> list[Array]:
    """Batches of token ids, int64 [B, T], for `sparsify` and `convert`.

    A .npy file holds integers [sequences, T], of which all are taken. Any other file is text in
    UTF-8: the tokenizer of `model_dir` turns it into tokens, and the first `sequences` pieces of
    `length` tokens are taken. Raises ModelError for a file that cannot be read or is too short.
    """
    file = Path(path)
    if sequences < 1 or length < 1:
        raise ModelError(
            f"{sequences} sequences of {length} tokens are no calibration",
            remedy="ask for at least one of each",
        )
    ids = _integers(file) if file.suffix == ".npy" else _text(file, model_dir, sequences, length)
    return list(ids.split(max(1, BATCH_TOKENS // ids.shape[1])))


def _integers(file: Path) -> Array:
    try:
        found = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise ModelError(f"{file} is not a .npy file", remedy="write it with numpy.save") from None
    if found.ndim != 2 or found.dtype.kind not in "iu" or 0 in found.shape:
        raise ModelError(
            f"{file} holds {found.dtype} {list(found.shape)}, but integers [sequences, tokens] are "
            "required",
            remedy="save the token ids of several texts of one length",
        )
    return torch.from_numpy(found.astype(np.int64))


def _text(file: Path, model_dir: "str | Path", sequences: int, length: int) -> Array:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ModelError(
            f"{file} cannot be read as text in UTF-8", remedy="pass a text or a .npy of token ids"
        ) from None
    kind = transformers().AutoTokenizer
    try:
        tokenizer = kind.from_pretrained(str(model_dir), local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ModelError(
            f"{model_dir} has no tokenizer that can be loaded ({reason})",
            remedy="pass a .npy file of token ids",
        ) from None
    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"])
    count = min(sequences, len(ids) // length)
    if count == 0:
        raise ModelError(
            f"{file} has {len(ids)} tokens, but at least one sequence of {length} is required",
            remedy="pass a longer text, or ask for shorter sequences",
        )
    return ids[: count * length].reshape(count, length)
