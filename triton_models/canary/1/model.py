"""Canary: returns PING as PONG, so that one small request proves server, backend and shared memory alive."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Stateless; imports nothing of the project, so that it answers even when the project is broken."""

    def execute(self, requests):
        """One response for each request, in order."""
        responses = []
        for request in requests:
            ping = pb_utils.get_input_tensor_by_name(request, "PING")
            # DLPack both ways: the wheel's stub is built for numpy 1. With numpy 2 as_numpy() repeats the first element
            # and Tensor(name, array) is 0 bytes long, both without an error (panther_core/model/tensors.py).
            pong = pb_utils.Tensor.from_dlpack("PONG", ping.to_dlpack())
            responses.append(pb_utils.InferenceResponse([pong]))
        return responses
