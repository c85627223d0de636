"""The shared domain: records, tokens, state, decisions, model and artifacts.

No Faust. Only `kafka` touches the network, and only `model` imports torch.
"""
