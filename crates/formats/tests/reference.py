"""The reference side of reference.rs: decodes and encodes with the PyPI `gguf` package and,
given a libggml-base.so, with ggml itself.

Usage: reference.py FOLDER [LIBGGML]. For each NAME.bytes in FOLDER it writes NAME.decoded; for each
encoding and each *.values (f32 rows of 1024) it writes NAME.STEM.gguf and NAME.STEM.ggml, the
encoded bytes, where the reference can encode; with STEM.importance, also ggml's NAME.STEM.weighted.
"""

import ctypes
import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, quants
from gguf.constants import GGML_QUANT_SIZES

ROW = 1024

folder = Path(sys.argv[1])
ggml = ctypes.CDLL(sys.argv[2]) if len(sys.argv) > 2 else None


def by_ggml(kind, rows, importance):
    block_len, block_bytes = GGML_QUANT_SIZES[kind]
    out = np.zeros(rows.size // block_len * block_bytes, np.uint8)
    pointer = lambda a: None if a is None else a.ctypes.data_as(ctypes.c_void_p)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    n = ggml.ggml_quantize_chunk(
        ctypes.c_int(kind), pointer(rows), pointer(out), ctypes.c_int64(0),
        ctypes.c_int64(rows.shape[0]), ctypes.c_int64(rows.shape[1]), pointer(importance))
    assert n == out.size, (kind, n, out.size)
    return out


np.seterr(all="ignore")
for path in folder.glob("*.bytes"):
    kind = GGMLQuantizationType[path.stem]
    decoded = quants.dequantize(np.fromfile(path, np.uint8), kind)
    decoded.astype(np.float32).tofile(path.with_suffix(".decoded"))
    for values in folder.glob("*.values"):
        rows = np.fromfile(values, np.float32).reshape(-1, ROW)
        out = folder / f"{kind.name}.{values.stem}"
        try:
            quants.quantize(rows, kind).tofile(f"{out}.gguf")
        except NotImplementedError:
            pass
        if ggml and kind != GGMLQuantizationType.F32:
            by_ggml(kind, rows, None).tofile(f"{out}.ggml")
            importance = values.with_suffix(".importance")
            if importance.exists():
                weights = np.fromfile(importance, np.float32)
                by_ggml(kind, rows, weights).tofile(f"{out}.weighted")
