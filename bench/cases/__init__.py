"""`panther bench cases`: what people's clusters, producers and peers really do, and what comes of it.

suite.py lists the cases and runs them, stage.py is the system that they act on. Each other file has the cases of one
subject: a case is a function that does something to the running system and notes what it saw (seen.py). The next case
is a function in one of these files and a line in suite.py.
"""
