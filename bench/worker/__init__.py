"""`panther bench worker` and `panther bench restore`: the stream side alone, beside what else one could have used.

Each contender is a process of its own over the same backlog, broker, partitions and state size, and writes a decision
of the same size for every transaction to a topic of its own; its rate is what the broker appends there in a second.
"""
