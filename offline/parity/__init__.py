"""Does the replay decide what the stream has decided? Event by event, and if not: what differed first.

`online` holds what was published; `log` puts the transactions into the order in which the stream took them in;
`decided` replays each transaction under the model version that its decision names; `compare` lists what differs;
`inputs` walks from token to output to find where a difference began; `report` joins these steps into one report.
"""
