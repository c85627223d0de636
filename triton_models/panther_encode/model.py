"""panther_encode on Triton's Python backend: a thin adapter over panther_core.model.incremental."""

import os
from functools import partial
from pathlib import Path

import triton_python_backend_utils as pb_utils

from panther_core.base.priority import load_unhurried

_METRICS = {
    "hits": "Users answered by continuing from their slab",
    "misses": "Users without a slab, recomputed",
    "stale": "Users whose slab held another history, recomputed",
    "evictions": "Slabs given to another user",
    "suffix": "Events appended to slabs",
}


class TritonPythonModel:
    """One process for each version; the artifact lies beside this file."""

    def initialize(self, args):
        """Load the version, and run it once, so that compiling does not delay the first request; all of it behind the
        versions that serve."""
        load_unhurried(partial(self._load, args), args, os.environ)
        import numba

        # of this thread, which answers; the one that has loaded the version has its own
        numba.set_num_threads(int(os.environ.get("PANTHER_TORCH_THREADS", "1")))
        self._open_metrics(args)

    def _load(self, args):
        import numba  # here: imports of seconds are part of what may take its time
        import torch

        from panther_core.decide.scoring import EncodeRequest
        from panther_core.model.incremental import IncrementalEncoder
        from panther_core.model.kernels.step import step_for
        from panther_core.model.serving import PantherModel
        from panther_core.model.tensors import instance_device, respond

        threads = int(os.environ.get("PANTHER_TORCH_THREADS", "1"))
        torch.set_num_threads(threads)
        numba.set_num_threads(threads)
        folder = Path(args["model_repository"]) / args["model_version"] / "artifact"
        model = PantherModel.load(folder, instance_device(args, os.environ))
        budget = int(os.environ.get("PANTHER_CACHE_BYTES", str(2 << 30)))
        precision = os.environ.get("PANTHER_CACHE_PRECISION", "float32")
        graphs = os.environ.get("PANTHER_CUDA_GRAPHS") == "1"
        self.encoder = IncrementalEncoder(model, budget, precision, partial(step_for, graphs=graphs))
        self.encoder.warm_up()
        self.respond = partial(respond, pb_utils, kind=EncodeRequest, answer=self.encoder.encode)

    def _open_metrics(self, args):
        labels = {"model": args["model_name"], "version": args["model_version"]}
        counters = {
            name: pb_utils.MetricFamily(
                name=f"panther_cache_{name}", description=text, kind=pb_utils.MetricFamily.COUNTER
            )
            for name, text in _METRICS.items()
        }
        gauge = pb_utils.MetricFamily(
            name="panther_cache_bytes", description="Bytes of the slab pool", kind=pb_utils.MetricFamily.GAUGE
        )
        self.told = dict.fromkeys(_METRICS, 0)
        self.metrics = {name: family.Metric(labels=labels) for name, family in counters.items()}
        self.families = (*counters.values(), gauge)  # kept: a family that is garbage-collected removes its metrics
        self.bytes = gauge.Metric(labels=labels)
        self.bytes.set(self.encoder.pool.stats.bytes)

    def execute(self, requests):
        """One response for each request, in order. A request that fails gets an error response; the others are
        answered."""
        answers = [self.respond(request) for request in requests]
        for name, metric in self.metrics.items():
            count = getattr(self.encoder.pool.stats, name)
            if count != self.told[name]:  # an increment is a round trip to the server
                # counted from self.told, not from metric.value(): the server's counter outlives this process
                metric.increment(count - self.told[name])
                self.told[name] = count
        return answers
