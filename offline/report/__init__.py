"""The report of a replay: `log` reads decisions, `build` measures them into `facts`, `replay_page` draws these.

A replay's folder gets two files: report.json (facts.ReplayReport), and report.html, which is a pure function of it.
"""
