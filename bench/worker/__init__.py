"""`panther bench worker`, `restore` and `memory`: the stream side alone, without a model server.

`panther bench worker` compares it with other stream frameworks. Each contender is a process of its own over the same
backlog, broker, partitions and state size, and writes a decision of the same size for every transaction to its own
topic; its rate is how many records a second the broker appends there.
"""
