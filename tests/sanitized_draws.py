"""Draws a little of everything on a GPU, for compute-sanitizer: every allocation its own, so that none hides a fault.

What torch probes for and does not find are API errors that are none of ours.

compute-sanitizer --tool memcheck --report-api-errors no python tests/sanitized_draws.py
compute-sanitizer --tool racecheck python tests/sanitized_draws.py
"""

from __future__ import annotations

import os

os.environ["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"

import pictures
import torch

import fdsl
from fdsl.engines import cuda

engine = cuda.Engine()
for family, name in pictures.CASES:
    dataset = pictures.dataset(family, name)
    if dataset.spec.size < 512:
        dataset.batch(range(min(4, len(dataset))), engine=engine)
catalog = fdsl.search("fractaldb", categories=2, device="cuda")
for labels in ("class", ("class", "mask", "boxes")):
    dataset = fdsl.Dataset(catalog, 8, fdsl.RenderSpec(size=64, points=500), labels=labels)
    for _ in fdsl.Feed(dataset, batch_size=4, device="cuda"):
        pass
scenes = fdsl.clouds.SceneDataset(fdsl.search("exfractaldb", categories=2, device="cuda"), scenes=2)
scenes.batch(range(2), engine=engine)
torch.cuda.synchronize()
