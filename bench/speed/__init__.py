"""The speed of single parts: `panther bench incremental` and `pretrain`, and modules that are run by themselves.

`python -m bench.speed.gpu` measures one GPU, `python -m bench.speed.readers` a file reader.
"""
