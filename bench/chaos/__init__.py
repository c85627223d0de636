"""`panther chaos` and `panther bench fuzz`: are all guarantees kept while parts die or input is bad?

experiment.py runs a chaos experiment on the system of stage.py, with the troubles of troubles.py under the load of
traffic.py; evidence.py reads what the run left behind, and check.py compares it with an offline run (offline_run.py).
"""
