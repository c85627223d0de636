"""The report of a replay: `log` reads decisions, `build` measures them into `facts`, `page` draws what was measured.

A replay's folder gets two files: report.json (facts.Report), and report.html, which is a pure function of it.
"""
